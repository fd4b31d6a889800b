"""Columns that are sound by themselves and contradict each other: `inspect` says which, in every kind."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from storage import describe
from storage.schemas import registry
from tests.storage.layout_samples import SAMPLES, SHA, write_sample

Plant = Callable[[h5py.File], Any]
PAIR = f"{SHA[0]}/{SHA[1]}"


def put(path: str, at: Any, value: Any) -> Plant:
    def plant(file: h5py.File) -> None:
        file[path][at] = value

    return plant


def root(name: str, value: Any) -> Plant:
    return lambda file: file.attrs.__setitem__(name, value)


def without(path: str, name: str) -> Plant:
    return lambda file: file[path].attrs.__delitem__(name)


def both(*plants: Plant) -> Plant:
    return lambda file: [plant(file) for plant in plants]


def again(table: str, *columns: str) -> Plant:
    """The first row of a table a second time, at its end."""

    def plant(file: h5py.File) -> None:
        for name in columns:
            old = file[f"{table}/{name}"]
            told, values = dict(old.attrs), np.concatenate([old[()], old[:1]])
            kept = h5py.check_string_dtype(old.dtype)
            del file[f"{table}/{name}"]
            file.create_dataset(f"{table}/{name}", data=values, dtype=kept and old.dtype)
            file[f"{table}/{name}"].attrs.update(told)

    return plant


DEFECTS: dict[str, tuple[str, Plant, str, str]] = {
    "rejected without a reason": ("scan", put("photos/reason", 3, ""), "photos/reason", "is empty at [3]"),
    "alias of other bytes": ("catalogue", put("photos/alias_of", 2, 1), "photos/alias_of", "other bytes"),
    "alias of a rejected file": ("scene", put("photos/alias_of", 2, 3), "photos/alias_of", "not ok"),
    "alias of an alias": ("catalogue", put("photos/alias_of", 0, 2), "photos/alias_of", "itself an alias"),
    "too many photographs": ("scene", put("models/num_photos", 0, 3), "models/num_photos", "but 2 rows of"),
    "too few points": ("scene", put("models/num_points", 0, 2), "models/num_points", "but 3 rows of"),
    "quaternion not of unit length": (
        "scene",
        put("cameras/cam_from_world", (0, slice(None), slice(0, 3)), 1.1 * np.eye(3)),
        "cameras/cam_from_world",
        "quaternion",
    ),
    "mirrored": (
        "scene",
        put("cameras/cam_from_world", (0, slice(None), slice(0, 3)), np.diag([1, 1, -1.0])),
        "cameras/cam_from_world",
        "mirrored",
    ),
    "another centre": (
        "scene",
        put("cameras/center_in_world", (1, 0), 2.0),
        "cameras/center_in_world",
        "at [1], off by 1 model units",
    ),
    "registered twice": ("scene", put("cameras/photo", 1, 0), "cameras/photo", "a second time in model 0"),
    "a duplicate registered": ("scene", put("cameras/photo", 1, 2), "cameras/photo", "does not call ok"),
    "no focal length": ("scene", put("cameras/focal_px", 1, 0.0), "cameras/focal_px", "is positive"),
    "parameters of another model": (
        "scene",
        put("cameras/colmap_model", 1, "OPENCV"),
        "cameras/params/indptr",
        "gives camera 1 4 parameters, but OPENCV has 8",
    ),
    "model without camera": ("scene", put("photos/model", 3, 0), "photos/model", "has no camera there"),
    "rejected in a cluster": ("scene", put("photos/cluster", 3, 0), "photos/cluster", "'rejected'"),
    "a keypoint for two points": (
        "scene",
        put("visibility/keypoint", 1, 3),
        "visibility/keypoint",
        "camera 0",
    ),
    "a point that nobody sees": (
        "scene",
        put("visibility/point", slice(2, 5), [0, 2, 2]),
        "visibility/point",
        "never names point 1",
    ),
    "an attempt twice": (
        "scene",
        again("attempts", "first", "second", "inliers"),
        "attempts/first",
        "the pair of row 0 again in row 3",
    ),
    "a pair twice": ("pairs", again("pairs", "first", "second", "inliers", "source"), "pairs/first", "row 2"),
    "another split than the image": ("training_set", put("queries/split", 1, 2), "queries/split", "says 0"),
    "a cluster in two splits": (
        "training_set",
        both(put("images/split", 1, 2), put("queries/split", 1, 2)),
        "images/split",
        "would share a place",
    ),
    "registered without a model": (
        "training_set",
        put("images/registered", 2, True),
        "images/registered",
        "has -1 there",
    ),
    "its own candidate": ("training_set", put("candidates/image", 0, 0), "candidates/image", "query itself"),
    "m1 is no candidate": (
        "training_set",
        put("positives/m1_pool/image", 0, 2),
        "positives/m1_pool/image",
        "no candidate",
    ),
    "a change twice": ("evaluation", put("harder/change", 1, "half"), "harder/change", "'half' at [1]"),
    "used without a gain": (
        "evaluation",
        put("verdict/chosen", (), 2),
        "verdict/chosen",
        "a candidate whose gain is not above zero",
    ),
    "a detail of nothing": (
        "training_set",
        put("harder/val/box", 0, [0, 0, 0.5, 1]),
        "harder/val/box",
        "a query with 0 easy and hard images",
    ),
    "m2 is no candidate": ("training_set", put("positives/m2", 1, 2), "positives/m2", "has 2 at [1]"),
    "m3 is no candidate": (
        "training_set",
        put("positives/m3/image", 0, 3),
        "positives/m3/image",
        "no candidate",
    ),
    "a negative of its own cluster": (
        "training_set",
        put("negatives/cluster", 0, 1),
        "negatives/cluster",
        "the cluster of the photograph itself",
    ),
    "a pair backwards": (
        "training_set",
        put("matched/first", 0, 1),
        "matched/second",
        "not come after image 1",
    ),
    "a pair over two splits": ("training_set", put("matched/second", 0, 3), "matched/second", "is in 0"),
    "matched twice": (
        "training_set",
        again("matched", "first", "second", "inliers"),
        "matched/first",
        "images 0 and 1 a second time",
    ),
    "two verdicts": (
        "training_set",
        again("negatives", "image", "cluster", "max_inliers", "allowed"),
        "negatives/image",
        "second verdict",
    ),
    "val query of train": (
        "training_set",
        put("benchmark/val/queries", 0, 0),
        "benchmark/val/queries",
        "puts elsewhere",
    ),
    "label outside of the database": (
        "training_set",
        put("benchmark/val/junk/image", 0, 2),
        "benchmark/val/junk/image",
        "not in the database",
    ),
    "best epoch never trained": ("training", put("best_epoch", (), 7), "best_epoch", "does not list"),
    "mined in no epoch": ("training", put("mined/epoch", 1, 9), "mined/epoch", "has 9"),
    "epochs out of order": ("training", put("epochs/epoch", slice(0, 2), [2, 1]), "epochs/epoch", "rises"),
    "positive is the query": ("training", put("mined/positive", 0, 0), "mined/positive", "the query itself"),
    "negative is the positive": (
        "training",
        put("mined/negatives", (1, 1), 1),
        "mined/negatives",
        "a positive of its tuple at [1]",
    ),
    "further positive is the query": (
        "training",
        put("mined/further_positives", (1, 0), 0),
        "mined/further_positives",
        "the query of its tuple at [1]",
    ),
    "further positive is a negative": (
        "training",
        put("mined/further_positives", (0, 0), 3),
        "mined/negatives",
        "positive of its tuple at [0]",
    ),
    "negative twice": ("training", put("mined/negatives", (0, 1), 2), "mined/negatives", "twice at [0]"),
    "eigenvalues rise": ("whitening", put("eigenvalues", 1, 5.0), "eigenvalues", "the column falls"),
    "an image ranked twice": ("evaluation", put("ranks/raw", (0, 1), 2), "ranks/raw", "twice in row 0"),
    "scores rise": ("evaluation", put("scores/raw", (0, 2), 0.95), "scores/raw", "rises in row 0"),
    "interval upside down": (
        "evaluation",
        put("configurations/map_low", 0, 0.7),
        "configurations/map_low",
        "above configurations/map_high",
    ),
    "mean of something else": (
        "evaluation",
        put("configurations/map", 0, 0.55),
        "configurations/map",
        "but the mean of average_precisions/raw-easy is 0.5",
    ),
    "rank beyond the distractors": (
        "benchmark",
        put("ranks", (0, 0), 3),
        "ranks",
        "dangling index 3 at [0, 0]",
    ),
    "distractor in the database": (
        "benchmark",
        both(put("distractors/position", 0, 1), put("ranks", (0, 0), -1)),
        "distractors/position",
        "ids below 2 are the database's",
    ),
    "image after none": ("benchmark", put("ranks", (1, 2), 0), "ranks", "after -1 (none) in row 1"),
    "more queries than there are": (
        "benchmark",
        put("rows/num_queries", 0, 3),
        "rows/num_queries",
        "2 queries",
    ),
    "index descriptor of another length": (
        "search_index",
        put("descriptors", (1, 1), 2.0),
        "descriptors",
        "has length 2 at [1]",
    ),
    "depths out of order": ("search_index", put("recall/depth", 1, 5), "recall/depth", "rises"),
    "keypoint outside": (
        "features",
        put(f"{SHA[0]}/keypoints", (1, 0), 700.0),
        f"{SHA[0]}/keypoints",
        "outside of 640 x 480",
    ),
    "descriptor of another length": (
        "descriptors",
        put(f"{SHA[1]}/global_descriptor", 0, 0.0),
        f"{SHA[1]}/global_descriptor",
        "has length 0.8",
    ),
    "keypoint matched twice": (
        "matches",
        put(f"{PAIR}/matches0", 1, 1),
        f"{PAIR}/matches0",
        "names keypoint 1",
    ),
    "fewer matches than told": (
        "matches",
        put("attempts/inliers", 0, 3),
        f"{PAIR}/matches0",
        "holds 2 matches",
    ),
    "matches that were not verified": (
        "matches",
        put("attempts/inliers", 0, 0),
        f"{PAIR}/matches0",
        "does not list as verified",
    ),
    "no unit": ("scene", without("points/error_px", "unit"), "points/error_px", "the schema says 'px'"),
    "another unit": (
        "scene",
        lambda file: file["photos/width"].attrs.__setitem__("unit", "mm"),
        "photos/width",
        "has 'mm' as attribute 'unit'",
    ),
    "no stage": ("scene", without("/", "stage"), "/", "'stage' is missing"),
    "no description of the file": ("pairs", without("/", "description"), "/", "'description' is missing"),
    "input that is no digest": ("pairs", root("inputs", '["abc"]'), "/", "'inputs' has 'abc' at [0]"),
    "version is a fraction": ("pairs", root("schema_version", 1.5), "/", "is 1.5, no integer"),
    "version is a text": ("pairs", root("schema_version", "1"), "/", "is '1', no integer"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "plant", "place", "text"), DEFECTS.values(), ids=DEFECTS)
def test_a_contradiction_is_found_at_its_place(
    tmp_path: Path, name: str, plant: Plant, place: str, text: str
) -> None:
    path = write_sample(tmp_path / "a.h5", name)
    assert describe(path).violations == ()
    with h5py.File(path, "r+") as file:
        plant(file)
    found = describe(path).violations
    assert [each for each in found if each.path == place and text in each.message], found


@pytest.mark.parametrize(
    ("box", "text"), [((0.5, 0, 0.5, 1), "lie before"), ((np.nan,) * 4, "a query with 1 easy and hard")]
)
def test_a_query_with_an_answer_has_a_detail_with_an_extent(
    tmp_path: Path, box: tuple[float, ...], text: str
) -> None:
    answer = {f"benchmark/val/{label}/image": np.array([], np.int64) for label in ("hard", "junk")}
    answer |= {f"benchmark/val/{label}/indptr": np.array([0, 0]) for label in ("hard", "junk")}
    answer |= {"benchmark/val/easy/image": np.array([3]), "benchmark/val/easy/indptr": np.array([0, 1])}
    good = np.array([[0, 0.25, 0.5, 1]], np.float32)
    path = write_sample(tmp_path / "a.h5", "training_set", **answer, **{"harder/val/box": good})
    assert describe(path).violations == ()
    with h5py.File(path, "r+") as file:
        file["harder/val/box"][0] = box
    assert [text in each.message for each in describe(path).violations] == [True]


def test_every_kind_of_file_has_its_defects() -> None:
    assert {name for name, *_ in DEFECTS.values()} == set(SAMPLES) == set(registry.all_layouts())


def test_what_is_broken_by_itself_is_not_blamed_again(tmp_path: Path) -> None:
    """A dangling point breaks no rule about its model: the rule is left out, and the others are looked at."""
    path = write_sample(tmp_path / "a.h5", "scene")
    with h5py.File(path, "r+") as file:
        file["visibility/point"][4] = 9
        file["models/num_photos"][0] = 5
    assert {each.path for each in describe(path).violations} == {"visibility/point", "models/num_photos"}


EVERY_INDEX = [
    (layout.name, dataset.path)
    for layout in registry.all_layouts().values()
    for dataset in layout.datasets
    if dataset.index and np.size(SAMPLES[layout.name]().get(dataset.path.replace("{ranking}", "raw"), ()))
]


@pytest.mark.parametrize(("name", "pattern"), EVERY_INDEX, ids=["-".join(each) for each in EVERY_INDEX])
@pytest.mark.parametrize("value", [-2, 10_000])
def test_a_dangling_index_is_found_in_every_column(
    tmp_path: Path, name: str, pattern: str, value: int
) -> None:
    path = write_sample(tmp_path / "a.h5", name)
    place = pattern.replace("{ranking}", "raw")
    with h5py.File(path, "r+") as file:
        file[place][(0,) * file[place].ndim] = value
    found = [each for each in describe(path).violations if each.path == place]
    assert any(f"dangling index {value} at [0" in each.message for each in found), found


EVERY_FLOAT = [
    (name, path)
    for name, make in SAMPLES.items()
    for path, values in make().items()
    if np.asarray(values).dtype.kind == "f" and np.asarray(values).size
]


@pytest.mark.parametrize(("name", "place"), EVERY_FLOAT, ids=["-".join(each) for each in EVERY_FLOAT])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_are_found_in_every_column(
    tmp_path: Path, name: str, place: str, value: float
) -> None:
    """Infinity nowhere, nan only where the layout allows it."""
    path = write_sample(tmp_path / "a.h5", name)
    with h5py.File(path, "r+") as file:
        file[place][(0,) * file[place].ndim] = value
    declared = registry.layout(name).find(place)
    assert declared is not None
    found = [each for each in describe(path).violations if each.path == place]
    finite = any("every value must be" in each.message for each in found)
    assert finite != (declared[0].nan and np.isnan(value)), found


EVERY_CSR = [
    (layout.name, dataset.path)
    for layout in registry.all_layouts().values()
    for dataset in layout.datasets
    if dataset.csr and dataset.path in SAMPLES[layout.name]()
]


@pytest.mark.parametrize(("name", "place"), EVERY_CSR, ids=["-".join(each) for each in EVERY_CSR])
@pytest.mark.parametrize(("at", "value", "text"), [(0, 1, "begins with 1"), (-1, 99, "ends with 99")])
def test_a_bad_pointer_is_found_in_every_csr(
    tmp_path: Path, name: str, place: str, at: int, value: int, text: str
) -> None:
    path = write_sample(tmp_path / "a.h5", name)
    with h5py.File(path, "r+") as file:
        file[place][at if at == 0 else len(file[place]) - 1] = value
    found = [each for each in describe(path).violations if each.path == place]
    assert any(text in each.message for each in found), found
