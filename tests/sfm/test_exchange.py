"""Training lists of the reference: written, read back, and refused where they could run code."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sfm import exchange
from sfm.exchange import BadTrainingList
from sfm.scene import Scene
from sfm.selection import SelectionOptions, select
from sfm.training_set import TrainingSet

MakeScene = Callable[..., Scene]
OURS = [("alone0.jpg", f"p{p:02d}_{n:02d}.jpg", 0) for p in range(12) for n in range(8)]


@pytest.fixture(scope="module")
def chosen(many_places: MakeScene) -> TrainingSet:
    """Six singletons, of which alone0 was matched to everything."""
    return select(many_places(attempts=OURS), SelectionOptions(query_fraction=0.5))


def tuples(chosen: TrainingSet, splits: tuple[int, ...] = (0, 1)) -> dict[str, list[str]]:
    """sha256 of each query -> of its positives, in order."""
    sha = chosen.images.sha256
    return {
        sha[query].decode(): [sha[image].decode() for image in chosen.positives.m3.row(row)]
        for row, query in enumerate(chosen.queries.image)
        if chosen.queries.split[row] in splits
    }


def test_the_same_tuples_come_back(chosen: TrainingSet, tmp_path: Path) -> None:
    chosen.to_cirtorch(tmp_path / "list.pkl")
    back = TrainingSet.from_cirtorch(tmp_path / "list.pkl")
    assert tuples(back) == tuples(chosen) and len(tuples(chosen)) > 10
    split_of = dict(zip(back.images.sha256.tolist(), back.images.split.tolist(), strict=True))
    for sha, split in zip(chosen.images.sha256.tolist(), chosen.images.split.tolist(), strict=True):
        assert split_of.get(sha, split) == split
    again = tmp_path / "again.pkl"
    back.to_cirtorch(again)
    assert tuples(TrainingSet.from_cirtorch(again)) == tuples(chosen)


def test_the_file_is_what_the_reference_reads(chosen: TrainingSet, tmp_path: Path) -> None:
    chosen.to_cirtorch(tmp_path / "list.pkl")
    lists = pickle.loads((tmp_path / "list.pkl").read_bytes())
    assert set(lists) == {"train", "val"}
    for part in lists.values():
        assert set(part) == {"cids", "cluster", "qidxs", "pidxs"}
        assert {type(value) for value in part["cids"]} == {str}
        assert {type(value) for column in ("cluster", "qidxs", "pidxs") for value in part[column]} == {int}
        for query, positive in zip(part["qidxs"], part["pidxs"], strict=True):
            assert query != positive and part["cluster"][query] == part["cluster"][positive]


def test_singletons_are_written_only_when_every_query_cluster_may_have_them(
    chosen: TrainingSet, tmp_path: Path
) -> None:
    chosen.to_cirtorch(tmp_path / "list.pkl")
    written = set(TrainingSet.from_cirtorch(tmp_path / "list.pkl").images.sha256.tolist())
    alone = [name.startswith("alone") for name in chosen.images.name]
    train_or_val = chosen.images.split < 2
    for image in np.flatnonzero(np.array(alone) & train_or_val):
        assert (chosen.images.sha256[image] in written) == (chosen.images.name[image] == "alone0.jpg")
    for image in np.flatnonzero(~np.array(alone) & train_or_val):
        assert chosen.images.sha256[image] in written


def test_the_image_tree(chosen: TrainingSet, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in chosen.images.name:
        (photos / name).write_text(name)
    chosen.to_cirtorch(tmp_path / "list.pkl", tmp_path / "ims", photos)
    lists = pickle.loads((tmp_path / "list.pkl").read_bytes())
    name_of = dict(zip([s.decode() for s in chosen.images.sha256], chosen.images.name, strict=True))
    cids = lists["train"]["cids"] + lists["val"]["cids"]
    for cid in cids:
        assert (tmp_path / "ims" / cid[-2:] / cid[-4:-2] / cid[-6:-4] / cid).read_text() == name_of[cid]
    back = TrainingSet.from_cirtorch(tmp_path / "list.pkl")
    assert all((tmp_path / "ims" / name).is_file() for name in back.images.name)


def published() -> dict[str, dict[str, list[Any]]]:
    """Like the published lists: 32-digit cids, a query with two positives, clusters counted anew in val."""
    train = [f"{n:032x}" for n in range(5)]
    val = [f"{n:032x}" for n in range(100, 103)]
    return {
        "train": {"cids": train, "cluster": [0, 0, 0, 4, 4], "qidxs": [2, 3, 2], "pidxs": [1, 4, 0]},
        "val": {"cids": val, "cluster": [0, 0, 1], "qidxs": [1], "pidxs": [0]},
    }


def write(path: Path, content: Any, protocol: int = 2) -> Path:
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_published_list_by_hand(tmp_path: Path, protocol: int) -> None:
    back = TrainingSet.from_cirtorch(write(tmp_path / "list.pkl", published(), protocol))
    assert back.images.name[1] == "01/00/00/" + "0" * 31 + "1"
    assert back.images.split.tolist() == [0] * 5 + [1] * 3
    assert back.images.cluster.tolist() == [0, 0, 0, 4, 4, 5, 5, 6]
    assert back.queries.image.tolist() == [2, 3, 6]
    assert [back.positives.m3.row(q).tolist() for q in range(3)] == [[1, 0], [4], [5]]
    assert back.positives.m2.tolist() == [1, 4, 5]
    back.to_h5(tmp_path / "set.h5")
    assert TrainingSet.from_h5(tmp_path / "set.h5").queries.image.tolist() == [2, 3, 6]


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path(self.target),))

    def __init__(self, target: Path) -> None:
        self.target = target


def test_code_in_the_pickle_does_not_run(tmp_path: Path) -> None:
    content = published() | {"more": _Evil(tmp_path / "ran")}
    with pytest.raises(BadTrainingList, match="not only lists of str and int"):
        TrainingSet.from_cirtorch(write(tmp_path / "evil.pkl", content))
    assert not (tmp_path / "ran").exists()


def _broken(column: str, value: Any) -> dict[str, Any]:
    lists = published()
    lists["train"][column] = value
    return lists


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "'train' must hold the lists"),
        ({"train": published()["train"]}, "'val' must hold the lists"),
        (_broken("qidxs", [2, 3, 9]), "points to image 9, it lists 5"),
        (_broken("qidxs", [2, 3, -1]), "points to image -1"),
        (_broken("pidxs", [1]), "1 positives"),
        (_broken("cluster", [0]), "1 clusters"),
        (_broken("cids", [1, 2, 3, 4, 5]), "cids holds 1, not str"),
        (_broken("cids", ["a" * 32] * 5), "listed twice"),
        (_broken("qidxs", [2.0, 3, 2]), "qidxs holds 2.0, not int"),
        (_broken("cluster", np.zeros(5)), "not only lists"),
    ],
)
def test_lists_that_are_wrong_are_errors(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(BadTrainingList, match=message):
        TrainingSet.from_cirtorch(write(tmp_path / "list.pkl", content))


def test_a_file_that_is_no_pickle_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "list.pkl").write_bytes(b"not a pickle")
    with pytest.raises(BadTrainingList, match=r"list\.pkl"):
        TrainingSet.from_cirtorch(tmp_path / "list.pkl")


def test_image_path() -> None:
    assert exchange.image_path("0123456789abcdef") == "ef/cd/ab/0123456789abcdef"
