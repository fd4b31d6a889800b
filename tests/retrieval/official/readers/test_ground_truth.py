import pickle
import zipfile

import numpy as np
import pytest

from retrieval.benchmarks.landmarks import average_precision, evaluate_classic, evaluate_revisited
from retrieval.official.readers.ground_truth import InvalidGroundTruth, read_pickle, read_text
from tests.official import needs, official

TRUTH = official("groundtruth")
needs_truth = needs(TRUTH)


def ranked(labels, order, num_images):
    """Lists that start with the named labels in the given order and end with everything else."""
    rows = []
    for query in labels:
        first = np.concatenate([np.unique(query[name]) for name in order])
        first = first[np.sort(np.unique(first, return_index=True)[1])]
        rows.append(np.concatenate([first, np.setdiff1d(np.arange(num_images), first)]))
    return np.stack(rows)


@needs_truth
@pytest.mark.parametrize(("name", "num_images"), [("roxford5k", 4993), ("rparis6k", 6322)])
def test_revisited_counts_and_extremes(name, num_images):
    truth = read_pickle(TRUTH / name / f"gnd_{name}.pkl")
    assert (len(truth.queries), len(truth.images)) == (70, num_images)
    assert truth.boxes.shape == (70, 4) and not set(truth.queries) & set(truth.images)
    perfect = evaluate_revisited(ranked(truth.labels, ["easy", "hard"], num_images), truth.labels)
    counted = {"roxford5k": (68, 70, 70), "rparis6k": (70, 70, 70)}[name]
    for protocol, expected in zip((perfect.easy, perfect.medium, perfect.hard), counted, strict=True):
        assert protocol.mean_average_precision == pytest.approx(1.0) and protocol.num_queries == expected
        assert protocol.mean_precision_at[10] == pytest.approx(1.0)
    worst = evaluate_revisited(ranked(truth.labels, ["easy", "hard"], num_images)[:, ::-1], truth.labels)
    query = truth.labels[0]
    junk, num = len(np.unique(query["junk"])), len(query["easy"]) + len(query["hard"])
    last = num_images - junk - num  # nothing but positives and what is no junk stands before them
    assert worst.medium.average_precisions[0] == pytest.approx(average_precision(last + np.arange(num), num))


@needs_truth
@pytest.mark.parametrize("name", ["oxford5k", "paris6k"])
def test_classic_text_counts_and_extremes(name, tmp_path):
    folder = TRUTH / name
    if name == "paris6k":
        zipfile.ZipFile(folder / "paris_120310.zip").extractall(tmp_path)
        folder = tmp_path / "paris_120310"
    names = sorted(
        {
            word
            for level in ("good", "ok", "junk")
            for f in folder.glob(f"*_{level}.txt")
            for word in f.read_text().split()
        }
    )
    truth = read_text(folder, names)
    assert len(truth.queries) == 55 and not any(query.startswith("oxc1_") for query in truth.queries)
    result = evaluate_classic(ranked(truth.labels, ["ok"], len(names)), truth.labels)
    overlapping = [bool(np.intersect1d(query["ok"], query["junk"]).size) for query in truth.labels]
    clean = ~np.array(overlapping)
    np.testing.assert_allclose(result.average_precisions[clean], 1.0)
    worst = evaluate_classic(ranked(truth.labels, ["ok"], len(names))[:, ::-1], truth.labels)
    assert (worst.average_precisions < 0.6).all()


def official(**changes):
    content = {
        "imlist": ["a", "b", "c"],
        "qimlist": ["q"],
        "gnd": [{"bbx": (1.0, 2.0, 3.0, 4.0), "easy": [0], "hard": np.array([2]), "junk": []}],
    }
    return {**content, **changes}


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_pickle_with_numpy_arrays(tmp_path, protocol):
    path = tmp_path / "gnd_mini.pkl"
    path.write_bytes(pickle.dumps(official(), protocol=protocol))
    truth = read_pickle(path)
    assert truth.images == ("a", "b", "c") and truth.queries == ("q",)
    np.testing.assert_array_equal(truth.boxes, [[1, 2, 3, 4]])
    assert truth.labels[0]["hard"].tolist() == [2] and truth.labels[0]["junk"].dtype == np.int64


class Malicious:
    def __reduce__(self):
        return eval, ("open('owned', 'w')",)


def test_pickled_code_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "gnd_bad.pkl"
    path.write_bytes(pickle.dumps(official(imlist=[Malicious()])))
    with pytest.raises(InvalidGroundTruth, match=r"builtins\.eval"):
        read_pickle(path)
    assert not (tmp_path / "owned").exists()


def test_bad_files_are_named(tmp_path):
    path = tmp_path / "gnd.pkl"
    with pytest.raises(InvalidGroundTruth, match="is missing"):
        read_pickle(path)
    path.write_bytes(pickle.dumps({"imlist": []}))
    with pytest.raises(InvalidGroundTruth, match="official form"):
        read_pickle(path)
    path.write_bytes(b"\x80\x04no pickle")
    with pytest.raises(InvalidGroundTruth, match="damaged pickle"):
        read_pickle(path)
    with pytest.raises(InvalidGroundTruth, match=r"no \*_query\.txt"):
        read_text(tmp_path, [])


def test_text_of_a_miniature(tmp_path):
    (tmp_path / "x_1_query.txt").write_text("oxc1_a 1 2.5 3 4\n")
    (tmp_path / "x_1_good.txt").write_text("b\n")
    (tmp_path / "x_1_ok.txt").write_text("a\n")
    with pytest.raises(InvalidGroundTruth, match=r"x_1_junk\.txt' is missing"):
        read_text(tmp_path, ["a", "b", "c"])
    (tmp_path / "x_1_junk.txt").write_text("c\n")
    truth = read_text(tmp_path, ["a", "b", "c"])
    assert truth.queries == ("a",) and truth.boxes.tolist() == [[1, 2.5, 3, 4]]
    assert truth.labels[0]["ok"].tolist() == [1, 0] and truth.labels[0]["junk"].tolist() == [2]
    with pytest.raises(InvalidGroundTruth, match="lists 'c'"):
        read_text(tmp_path, ["a", "b"])
