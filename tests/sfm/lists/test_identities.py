"""Training sets from identities: re-identification across cameras, products, bad files."""

from pathlib import Path

import numpy as np
import pytest

from retrieval.training.positives import usable_queries
from retrieval.training.tuples import forbidden, negative_pool
from sfm.lists import identities
from sfm.lists.identities import BadIdentities, IdentityOptions, from_labels, read_labels
from sfm.training_set.duplicates import Contradiction
from sfm.training_set.known_truth import NothingToTrainOn
from sfm.training_set.training_set import TrainingSet
from storage.outside.text import BadText

ALL_TRAIN = IdentityOptions(val_fraction=0, test_fraction=0)
ACROSS = IdentityOptions(val_fraction=0, test_fraction=0, other_camera=True)


def names_of(count: int) -> list[str]:
    return [f"{n}.jpg" for n in range(count)]


def test_by_hand() -> None:
    """anna: 0, 2, 3; bob: 1, 4; carl alone."""
    chosen = from_labels(names_of(6), ["anna", "bob", "anna", "anna", "bob", "carl"], None, ALL_TRAIN)
    assert chosen.images.cluster.tolist() == [0, 1, 0, 0, 1, 2]
    assert chosen.queries.image.tolist() == [0, 1, 2, 3, 4]
    assert [chosen.positives.m3.row(q).tolist() for q in range(5)] == [[2, 3], [4], [0, 3], [0, 2], [1]]
    assert chosen.positives.m2.tolist() == [2, 4, 0, 0, 1]
    arrays = chosen.arrays()
    assert negative_pool(arrays, 0).tolist() == [0, 1, 2, 3, 4, 5]  # carl serves without a verdict
    assert forbidden(arrays, chosen.queries.image, np.arange(6)).nnz == 0


def test_positives_of_another_camera() -> None:
    who, where = [7, 7, 7, 8, 8, 9], ["c1", "c1", "c2", "c1", "c1", "c2"]
    chosen = from_labels(names_of(6), who, where, ACROSS)
    assert chosen.queries.image.tolist() == [0, 1, 2]
    assert [chosen.positives.m3.row(q).tolist() for q in range(3)] == [[2], [2], [0, 1]]
    assert from_labels(names_of(6), who, where, ALL_TRAIN).queries.image.tolist() == [0, 1, 2, 3, 4]


def many(per: int = 4, count: int = 40) -> tuple[list[str], list[str], list[str]]:
    who = [f"id {n % count}" for n in range(per * count)]
    return names_of(len(who)), who, [f"c{n // count % 2}" for n in range(len(who))]


def test_splits_keep_identities_whole_and_the_benchmark_is_filled() -> None:
    names, who, where = many()
    chosen = from_labels(names, who, where, IdentityOptions(other_camera=True))
    for identity in set(who):
        mine = [n for n, each in enumerate(who) if each == identity]
        assert len(set(chosen.images.split[mine].tolist())) == 1
    for number, split in ((1, "val"), (2, "test")):
        labels = chosen.benchmark[split]
        assert labels.database.tolist() == np.flatnonzero(chosen.images.split == number).tolist()
        assert labels.queries.size >= 3 * 4
        for n, query in enumerate(labels.queries.tolist()):
            same = {m for m, each in enumerate(who) if each == who[query]}
            other = {m for m in same if where[m] != where[query]}
            assert set(labels.easy.row(n).tolist()) == other
            assert set(labels.junk.row(n).tolist()) == same - other


def test_the_order_of_the_list_changes_no_split() -> None:
    names, who, where = many()
    order = np.random.default_rng(0).permutation(len(names))
    one = from_labels(names, who, where)
    other = from_labels([names[n] for n in order], [who[n] for n in order], [where[n] for n in order])
    assert one.images.split[order].tolist() == other.images.split.tolist()


def test_the_file_comes_back(tmp_path: Path) -> None:
    chosen = from_labels(*many())
    chosen.to_h5(tmp_path / "set.h5")
    back = TrainingSet.from_h5(tmp_path / "set.h5")
    assert back.negatives.excluded is not None and back.negatives.excluded.image.size == 0
    assert usable_queries(back.arrays(), 0, "m2").size == chosen.summary["queries"]["train"]


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_csv_of_people(tmp_path: Path) -> None:
    for name in "abcd":
        (tmp_path / f"{name}.jpg").write_text(name)
    rows = write(
        tmp_path / "rows.csv", "identity,name,camera\nü 1,a.jpg,0\nü 1,b.jpg,1\n2,c.jpg,0\n2,d.jpg,0\n"
    )
    read = read_labels(rows)
    assert read.identities == ["ü 1", "ü 1", "2", "2"] and read.cameras == ["0", "1", "0", "0"]
    chosen = identities.from_csv(rows, tmp_path, ACROSS)
    assert chosen.images.name[chosen.queries.image].tolist() == ["a.jpg", "b.jpg"]
    assert len(chosen.images.sha256[0]) == 64


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,identiti\na,1\n", r"columns are 'name,identiti'; they must be name,identity,\[camera\]"),
        ("name,identity,cam\na,1,1\n", "unknown column 'cam'; did you mean 'camera'"),
        ("name,identity\na,1\nb,\n", "line 3: identity is empty"),
        ("name,identity,camera\na,1,\n", "line 2: camera is empty"),
    ],
)
def test_bad_csv_files_are_errors_with_lines(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BadText, match=message):
        read_labels(write(tmp_path / "rows.csv", text))


def test_a_photograph_under_two_names_is_one_or_a_contradiction(tmp_path: Path) -> None:
    for name, content in {"a": "1", "b": "2", "a again": "1"}.items():
        (tmp_path / name).write_text(content)

    def chosen(twin: str) -> TrainingSet:
        rows = f"name,identity,camera\na,anna,0\nb,anna,1\na again,{twin}\n"
        return identities.from_csv(write(tmp_path / "rows.csv", rows), tmp_path, ALL_TRAIN)

    found = chosen("anna,0")
    assert found.images.name.tolist() == ["a", "b"] and found.queries.image.tolist() == [0, 1]
    assert found.summary["warnings"][0] == "same photograph under two names, taken once: 'a again' = 'a'"
    for twin, why in {"carl,0": "identities 'anna' and 'carl'", "anna,1": "cameras '0' and '1'"}.items():
        with pytest.raises(Contradiction, match=f"line 4: 'a again' is the same .* 'a' .*line 2.* {why}"):
            chosen(twin)


def test_bad_lists_are_errors() -> None:
    with pytest.raises(BadIdentities, match="2 identities for 1 names"):
        from_labels(["a"], [1, 2])
    with pytest.raises(BadIdentities, match="needs to know the cameras"):
        from_labels(["a", "b"], [1, 1], None, ACROSS)
    with pytest.raises(NothingToTrainOn):
        from_labels(["a", "b"], [1, 2])
    with pytest.raises(NothingToTrainOn):
        from_labels([], [])


def test_a_list_of_the_reference_keeps_who_is_alone(tmp_path: Path) -> None:
    chosen = from_labels(names_of(3), ["anna", "anna", "carl"], None, ALL_TRAIN)
    chosen.to_cirtorch(tmp_path / "list.pkl")
    assert TrainingSet.from_cirtorch(tmp_path / "list.pkl").images.cluster.tolist() == [0, 0, 1]
