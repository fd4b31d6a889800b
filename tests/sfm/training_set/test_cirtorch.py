"""Training lists of the reference: written, read back, and refused where they could run code."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sfm.scene.scene import Scene
from sfm.selection.choosing import SelectionOptions, select
from sfm.training_set.cirtorch import CirtorchOptions, training_set_of
from sfm.training_set.cirtorch_file import BadTrainingList, digest_of, image_path, read_cirtorch
from sfm.training_set.duplicates import Contradiction
from sfm.training_set.tables import Negatives, no_candidates
from sfm.training_set.training_set import TrainingSet
from storage.schemas.table import Ragged
from storage.schemas.training_set import Benchmark, Images, Positives, Queries

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


def random_set(seed: int) -> TrainingSet:
    """Clusters of all sizes in three splits, every query with listed positives; all others are negatives."""
    generator = np.random.default_rng(seed)
    sizes = generator.integers(1, 6, int(generator.integers(1, 15)))
    cluster = generator.permutation(np.repeat(np.arange(sizes.size), sizes))
    split = generator.integers(0, 3, sizes.size).astype(np.int8)[cluster]
    digests = np.array(
        [hashlib.sha256(f"{seed} {n}".encode()).hexdigest() for n in range(cluster.size)], "S64"
    )
    names = np.array([f"{n} ü\n.jpg" for n in range(cluster.size)], dtype=object)
    images = Images(names, digests, cluster, cluster, split, cluster >= 0)
    able = np.flatnonzero((sizes > 1)[cluster])
    query = np.sort(generator.choice(able, int(generator.integers(0, able.size + 1)), replace=False))
    others = [generator.permutation(np.setdiff1d(np.flatnonzero(cluster == cluster[q]), [q])) for q in query]
    rows = Ragged.from_rows([row[: generator.integers(1, row.size + 1)] for row in others])
    none = Ragged(np.zeros(query.size + 1, np.int64), np.empty(0, np.int64))
    nothing = Benchmark(none.image, none.image, *[Ragged.from_rows([])] * 3)
    return TrainingSet(
        images,
        Queries(query, split[query]),
        no_candidates(query.size),
        Positives(rows, rows.image[rows.indptr[:-1]], rows),
        Negatives.known(none),
        {"val": nothing, "test": nothing},
    )


def clusters_of(chosen: TrainingSet) -> set[frozenset[bytes]]:
    """sha256 of the images of every cluster of train and val."""
    images, kept = chosen.images, chosen.images.split < 2
    numbers = np.unique(images.cluster[kept])
    return {frozenset(images.sha256[kept & (images.cluster == number)].tolist()) for number in numbers}


@given(seed=st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_writing_and_reading_are_each_others_inverse(seed: int) -> None:
    chosen = random_set(seed)
    with TemporaryDirectory() as folder:
        first, second = Path(folder) / "first.pkl", Path(folder) / "second.pkl"
        chosen.to_cirtorch(first)
        back = TrainingSet.from_cirtorch(first)
        back.to_cirtorch(second)
        kinds = {type(value) for part in pickle.loads(first.read_bytes()).values() for column in part.values()
                 for value in column}  # fmt: skip
        again = TrainingSet.from_cirtorch(second)
    assert kinds <= {str, int}
    split_of = dict(zip(chosen.images.sha256.tolist(), chosen.images.split.tolist(), strict=True))
    for one in (back, again):
        assert tuples(one) == tuples(chosen) and clusters_of(one) == clusters_of(chosen)
        found = dict(zip(one.images.sha256.tolist(), one.images.split.tolist(), strict=True))
        assert found == {sha: split for sha, split in split_of.items() if split < 2}
    assert arrays_equal(back.arrays(), again.arrays())


def arrays_equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[path], other[path]) for path in one)


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
    val = back.benchmark["val"]
    assert (val.queries.tolist(), val.database.tolist()) == ([6], [5, 6, 7])
    assert (val.easy.row(0).tolist(), val.hard.row(0).tolist(), val.junk.row(0).tolist()) == ([5], [], [6])
    assert back.benchmark["test"].queries.size == 0
    back.to_h5(tmp_path / "set.h5")
    assert TrainingSet.from_h5(tmp_path / "set.h5").queries.image.tolist() == [2, 3, 6]


def test_what_is_not_listed_of_a_cluster_is_junk(tmp_path: Path) -> None:
    lists = published()
    lists["val"] |= {"cluster": [0, 0, 0]}
    val = TrainingSet.from_cirtorch(write(tmp_path / "list.pkl", lists)).benchmark["val"]
    assert (val.easy.row(0).tolist(), val.junk.row(0).tolist()) == ([5], [6, 7])


def many_pairs(count: int) -> dict[str, dict[str, list[Any]]]:
    """Clusters of two, each with a query, all of them in train."""
    cids = [f"{n:032x}" for n in range(2 * count)]
    evens = list(range(0, 2 * count, 2))
    train = {"cids": cids, "cluster": [n // 2 for n in range(2 * count)], "qidxs": evens}
    nothing: dict[str, list[Any]] = {"cids": [], "cluster": [], "qidxs": [], "pidxs": []}
    return {"train": train | {"pidxs": [n + 1 for n in evens]}, "val": nothing}


def test_test_is_drawn_from_the_clusters_of_train(tmp_path: Path) -> None:
    listed = read_cirtorch(write(tmp_path / "list.pkl", many_pairs(200)))
    digests = [digest_of(cid) for cid in listed.cids]
    held = training_set_of(TrainingSet, listed, listed.names, digests, CirtorchOptions(test_fraction=0.2))
    assert 20 <= (held.images.split == 2).sum() / 2 <= 60 and not (held.images.split == 1).any()
    by_cluster = held.images.split.reshape(200, 2)
    assert (by_cluster[:, 0] == by_cluster[:, 1]).all()
    benchmark = held.benchmark["test"]
    assert benchmark.queries.tolist() == np.flatnonzero(held.images.split == 2)[::2].tolist()
    other = training_set_of(
        TrainingSet, listed, listed.names, digests, CirtorchOptions(test_fraction=0.2, seed=1)
    )
    assert not np.array_equal(other.images.split, held.images.split)
    whole = training_set_of(TrainingSet, listed, listed.names, digests, CirtorchOptions(test_fraction=0))
    assert (whole.images.split == 0).all()


def test_images_that_are_one_photograph_become_one(tmp_path: Path) -> None:
    listed = read_cirtorch(write(tmp_path / "list.pkl", published()))
    digests = [digest_of(cid) for cid in listed.cids]
    twins = [*digests[:2], digests[1], *digests[3:]]  # images 1 and 2, a query and its first positive
    found = training_set_of(TrainingSet, listed, listed.names, twins)
    assert found.images.name.tolist() == [name for n, name in enumerate(listed.names) if n != 2]
    assert found.queries.image.tolist() == [1, 2, 5]
    assert [found.positives.m3.row(q).tolist() for q in range(3)] == [[0], [3], [4]]
    assert found.summary["warnings"][0] == "1 images of the list are photographs that it has already"
    with pytest.raises(Contradiction, match="same photograph in two clusters"):
        training_set_of(TrainingSet, listed, listed.names, [*digests[:3], digests[0], *digests[4:]])


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path(self.target),))

    def __init__(self, target: Path) -> None:
        self.target = target


def test_code_in_the_pickle_does_not_run(tmp_path: Path) -> None:
    content = published() | {"more": _Evil(tmp_path / "ran")}
    with pytest.raises(BadTrainingList, match=r"evil\.pkl: it asks for __builtin__\.getattr"):
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
        (_broken("cluster", np.zeros(5)), "cluster holds 0.0, not int"),
        (_broken("cluster", [0, 0, 0, -1, -1]), "cluster holds -1"),
        (_broken("cluster", [0, 0, 0, 2**70, 2**70]), "cluster holds 1180591620717411303424"),
        (_broken("pidxs", [2, 4, 0]), "image 2 is its own positive"),
        (_broken("pidxs", [3, 4, 0]), "image 3 is a positive of image 2 and of another cluster"),
        (_broken("cids", ["a" * 32, "", "b", "c", "d"]), "holds '', which is the name of no image"),
        (_broken("cids", ["a" * 32, "\0", "b", "c", "d"]), "which is the name of no image"),
    ],
)
def test_lists_that_are_wrong_are_errors(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(BadTrainingList, match=message):
        TrainingSet.from_cirtorch(write(tmp_path / "list.pkl", content))


def test_a_file_that_is_no_pickle_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "list.pkl").write_bytes(b"not a pickle")
    with pytest.raises(BadTrainingList, match=r"none\.pkl: cannot be read"):
        TrainingSet.from_cirtorch(tmp_path / "none.pkl")
    with pytest.raises(BadTrainingList, match=r"list\.pkl"):
        TrainingSet.from_cirtorch(tmp_path / "list.pkl")


def test_image_path() -> None:
    assert image_path("0123456789abcdef") == "ef/cd/ab/0123456789abcdef"
