import json

import pandas as pd
import pytest

from retrieval.benchmarks.msls import InvalidMsls, evaluate_msls, read_msls
from tests.official import needs, official

ORACLE = official("oracles", "msls", "eval.json")


@needs(ORACLE)
def test_oracle():
    for case in json.loads(ORACLE.read_text()):
        predictions = {row[0]: row[1:] for row in case["predictions"]}
        positives = dict(zip(case["query_keys"], case["positive_keys"], strict=True))
        result = evaluate_msls(predictions, positives, tuple(case["ks"]))
        for k in case["ks"]:
            assert result.recall_at[k] == pytest.approx(case["metrics"][f"recall@{k}"], abs=1e-12)
            assert result.map_at[k] == pytest.approx(case["metrics"][f"map@{k}"], abs=1e-12)


def test_by_hand():
    positives = {"q": ["a", "b", "c"], "without": []}
    result = evaluate_msls({"q": ["x", "a", "a", "b"], "other": ["a"]}, positives, ks=(1, 2, 4))
    assert result.num_queries == 1 and result.recall_at == {1: 0.0, 2: 1.0, 4: 1.0}
    # hits at 2 and 4, the repeated key does not count: at 2 of min(3, 2), at 4 of 3
    assert result.map_at == {1: 0.0, 2: pytest.approx(0.25), 4: pytest.approx((1 / 2 + 2 / 4) / 3)}


def write_side(folder, rows):
    """rows: key, sequence, frame number, easting, pano, in s2w."""
    folder.mkdir(parents=True)
    table = pd.DataFrame(rows, columns=["key", "sequence_key", "frame_number", "easting", "pano", "s2w"])
    table["northing"], table["all"] = 6_000_000.0, True
    table[["key", "easting", "northing"]].to_csv(folder / "postprocessed.csv")
    table[["key", "pano"]].to_csv(folder / "raw.csv")
    table[["key", "sequence_key", "frame_number"]].to_csv(folder / "seq_info.csv")
    table[["all", "s2w"]].to_csv(folder / "subtask_index.csv")


@pytest.fixture
def root(tmp_path):
    base = tmp_path / "train_val" / "cph"
    write_side(
        base / "query",
        [
            ("q0", "s", 0, 0.0, False, True),
            ("q1", "s", 1, 100.0, False, False),
            ("q2", "s", 2, 200.0, False, True),
            ("q3", "t", 3, 300.0, True, True),
            ("q4", "t", 5, 400.0, False, True),
        ],
    )
    write_side(
        base / "database",
        [
            ("d0", "u", 7, 25.0, False, True),
            ("d1", "u", 8, 125.1, False, True),
            ("d2", "u", 9, 225.0, False, False),
            ("d3", "v", 1, 300.0, False, True),
            ("d4", "v", 2, 210.0, True, True),
        ],
    )
    return tmp_path


def test_images(root):
    found = read_msls(root, cities=["cph"])
    assert found.query_keys == ("q0", "q1", "q2", "q4")  # q3 is a panorama
    assert found.database_keys == ("d0", "d1", "d2", "d3")
    # 25.0 m counts, 25.1 m does not
    assert found.positives == {"q0": ["d0"], "q1": [], "q2": ["d2"], "q4": []}
    assert found.files["d3"] == root / "train_val" / "cph" / "database" / "images" / "d3.jpg"


def test_subtask(root):
    found = read_msls(root, cities=["cph"], subtask="s2w")
    assert found.query_keys == ("q0", "q2", "q4") and found.database_keys == ("d0", "d1", "d3")
    assert found.positives["q2"] == []


def test_sequences(root):
    found = read_msls(root, cities=["cph"], task="seq2seq", sequence_length=3)
    # t skips frame 4, v has two frames only
    assert found.query_keys == ("q0,q1,q2",) and found.database_keys == ("d0,d1,d2",)
    assert found.positives == {"q0,q1,q2": ["d0,d1,d2"]}
    mixed = read_msls(root, cities=["cph"], task="im2seq", sequence_length=3)
    assert mixed.positives == {"q0": ["d0,d1,d2"], "q1": [], "q2": ["d0,d1,d2"], "q4": []}
    centre = read_msls(root, cities=["cph"], task="seq2im", subtask="s2w", sequence_length=3)
    assert centre.query_keys == ()  # its centre frame q1 is not in the subtask


def test_bad_input_is_named(root):
    with pytest.raises(InvalidMsls, match="no predictions for query 'q'"):
        evaluate_msls({}, {"q": ["a"]})
    with pytest.raises(InvalidMsls, match="length is odd"):
        read_msls(root, cities=["cph"], sequence_length=2)
    (root / "train_val" / "cph" / "query" / "raw.csv").unlink()
    with pytest.raises(InvalidMsls, match=r"raw\.csv' is missing"):
        read_msls(root, cities=["cph"])
