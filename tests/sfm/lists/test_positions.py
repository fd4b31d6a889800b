"""Training sets from positions: radii to the millimetre, headings, splits far from each other, bad files."""

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from retrieval.training.tuples import forbidden, negative_pool
from sfm.lists import positions
from sfm.lists.position_tables import earth_centred, read_positions
from sfm.lists.positions import BadPositions, PositionOptions, from_positions
from sfm.training_set.cirtorch import NotExpressible
from sfm.training_set.duplicates import Contradiction
from sfm.training_set.known_truth import BadEntry, NothingToTrainOn
from sfm.training_set.training_set import TrainingSet
from storage.outside.text import BadText

ALL_TRAIN = PositionOptions(val_fraction=0, test_fraction=0)


def names_of(count: int) -> list[str]:
    return [f"photo {n:03d} é.jpg" for n in range(count)]


def street(xs: list[float], headings: list[float] | None = None) -> TrainingSet:
    """Photographs along a line in UTM coordinates whose differences are no round binary numbers."""
    places = np.stack([500000.1 + np.array(xs), np.full(len(xs), 5400000.7)], axis=1)
    return from_positions(names_of(len(xs)), places, headings, ALL_TRAIN)


def negatives_of(chosen: TrainingSet) -> dict[int, set[int]]:
    """Query -> what mining may use, as mining computes it."""
    arrays = chosen.arrays()
    pool, queries = negative_pool(arrays, 0), chosen.queries.image
    cluster = chosen.images.cluster
    barred = forbidden(arrays, queries, pool).toarray() | (cluster[queries][:, None] == cluster[pool])
    return {int(q): set(pool[~row].tolist()) for q, row in zip(queries, barred, strict=True)}


def test_the_radii_by_hand() -> None:
    chosen = street([0, 10.0, 25.0, 25.001, 60])
    assert chosen.queries.image.tolist() == [0, 1, 2, 3]
    assert chosen.positives.m2.tolist() == [1, 0, 3, 2]
    assert [chosen.positives.m3.row(q).tolist() for q in range(4)] == [[1], [0], [3], [2]]
    assert negatives_of(chosen) == {0: {3, 4}, 1: {4}, 2: {4}, 3: {0, 4}}
    beyond = street([0, 10.001, 17, 100])
    assert beyond.queries.image.tolist() == [1, 2] and negatives_of(beyond)[2] == {3}


def test_a_long_street_is_not_one_cluster() -> None:
    chosen = street([5.0 * n for n in range(100)])
    found = negatives_of(chosen)
    for query in range(100):
        assert found[query] == {n for n in range(100) if abs(n - query) > 5}
    first = chosen.positives.m1_pool.row(50)
    assert first.tolist() == [49, 51, 48, 52]
    assert np.all(chosen.images.model == -1) and not chosen.images.registered.any()


def test_headings_make_a_pair_neither() -> None:
    chosen = street([0, 1, 2, 3, 4, 200], [350, 30, 31, 170, float("nan"), 0])
    row = {int(q): set(chosen.positives.m3.row(n).tolist()) for n, q in enumerate(chosen.queries.image)}
    assert row == {0: {1}, 1: {0, 2}, 2: {1}}
    assert all(found == {5} for found in negatives_of(chosen).values())
    options = PositionOptions(val_fraction=0, test_fraction=0, max_heading_change_deg=180)
    ignored = from_positions(names_of(2), [[0, 0], [1, 0]], [0, float("nan")], options)
    assert ignored.queries.image.tolist() == [0, 1]


def city(seed: int, count: int = 1200, side: float = 1200.0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, side, (count, 2)) + np.array([500000, 5400000])


def distances(places: np.ndarray) -> np.ndarray:
    return np.linalg.norm(places[:, None] - places[None], axis=2)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_negatives_are_exactly_what_lies_beyond(dimensions: int) -> None:
    places = np.random.default_rng(1).uniform(-60, 60, (150, dimensions))
    chosen = from_positions(names_of(150), places, None, ALL_TRAIN)
    far = distances(places)
    for query, found in negatives_of(chosen).items():
        assert found == set(np.flatnonzero(far[query] > 25).tolist())
    pairs = {(int(q), int(p)) for n, q in enumerate(chosen.queries.image) for p in chosen.positives.m3.row(n)}
    assert pairs == {(a, b) for a, b in np.argwhere(far <= 10).tolist() if a != b}


def test_splits_of_a_dense_city_are_apart() -> None:
    places, names = city(0, side=700.0), names_of(1200)
    chosen = from_positions(names, places, None, PositionOptions(seed=3))
    row = {name: n for n, name in enumerate(names)}
    kept = places[[row[name] for name in chosen.images.name]]
    across = chosen.images.split[:, None] != chosen.images.split[None]
    assert distances(kept)[across].min() > 25
    assert set(chosen.images.split.tolist()) == {0, 1, 2}
    assert all(count > 20 for count in chosen.summary["queries"].values())
    assert 0 < chosen.summary["left_out_between_splits"] == 1200 - len(kept) < 400


def test_areas_of_their_own_lose_nothing() -> None:
    places = np.concatenate([city(n, 12, 30) + np.array([0, 1000 * n]) for n in range(30)])
    chosen = from_positions(names_of(360), places)
    area = np.repeat(np.arange(30), 12)
    assert chosen.summary["left_out_between_splits"] == 0
    assert all(len(set(chosen.images.split[area == n].tolist())) == 1 for n in range(30))


def test_the_order_of_the_list_changes_nothing() -> None:
    places, names = city(2, 300, 400), names_of(300)
    order = np.random.default_rng(0).permutation(300)
    one = from_positions(names, places)
    other = from_positions([names[n] for n in order], places[order])

    def meaning(chosen: TrainingSet) -> dict[str, object]:
        name, excluded = chosen.images.name, chosen.negatives.excluded
        assert excluded is not None
        return {
            name[q]: (
                int(chosen.queries.split[n]),
                sorted(name[chosen.positives.m3.row(n)]),
                sorted(name[excluded.row(n)]),
            )
            for n, q in enumerate(chosen.queries.image)
        }

    assert meaning(one) == meaning(other)


def test_the_benchmark_leaves_the_ring_out() -> None:
    places = np.concatenate(
        [np.array([[0.0, 0], [8, 0], [20, 0], [60, 0]]) + np.array([0, 5000.0 * n]) for n in range(20)]
    )
    chosen = from_positions(names_of(80), places)
    for split in ("val", "test"):
        labels = chosen.benchmark[split]
        assert len(labels.queries) and set(labels.database % 4) == {0, 1, 2, 3}
        for n, query in enumerate(labels.queries.tolist()):
            place, start = query % 4, query - query % 4
            assert place in (0, 1)  # 20 is 12 m from the nearest
            assert labels.easy.row(n).tolist() == [start + 1 - place]
            assert labels.hard.row(n).size == 0
            assert labels.junk.row(n).tolist() == sorted([query, start + 2])


def test_the_file_comes_back(tmp_path: Path) -> None:
    chosen = street([0, 5, 20, 60])
    chosen.to_h5(tmp_path / "set.h5")
    back = TrainingSet.from_h5(tmp_path / "set.h5")
    assert back.negatives.excluded is not None and chosen.negatives.excluded is not None
    assert back.negatives.excluded.image.tolist() == chosen.negatives.excluded.image.tolist()
    assert {path: np.asarray(value).tolist() for path, value in back.arrays().items()} == {
        path: np.asarray(value).tolist() for path, value in chosen.arrays().items()
    }


@pytest.mark.parametrize(
    ("latitude", "longitude"), [(48.2, 16.4), (0.0, 180.0), (-89.9999, 3.0), (64.1, -21.9)]
)
def test_degrees_to_metres(latitude: float, longitude: float) -> None:
    """A degree of latitude is 111.13 km +- 0.6 %, one of longitude shrinks with the cosine."""
    here, north, east = earth_centred(
        [latitude, latitude + 1e-4, latitude], [longitude, longitude, longitude + 1e-4]
    )
    assert np.linalg.norm(north - here) == pytest.approx(11.1, rel=0.007)
    parallel = 11.13 * np.cos(np.radians(latitude))
    assert np.linalg.norm(east - here) == pytest.approx(parallel, rel=0.004, abs=1e-4)
    wrapped = earth_centred([latitude], [longitude - 360])[0]
    assert np.linalg.norm(wrapped - here) < 1e-6


def test_earth_centred_against_known_points() -> None:
    """Equator, pole, and 45 degrees (x = z-radius values of WGS 84)."""
    found = earth_centred([0, 90, 45], [0, 0, 0])
    expected = [[6378137.0, 0, 0], [0, 0, 6356752.3142], [4517590.8788, 0, 4487348.4088]]
    np.testing.assert_allclose(found, expected, atol=1e-3)


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def test_a_csv_of_people(tmp_path: Path) -> None:
    text = '﻿Name, Easting,northing,heading\r\n"a, b\n.jpg",1.5,2,350\r\n\r\n c.jpg,3,4,\r\n'
    rows = read_positions(write(tmp_path / "rows.csv", text))
    assert rows.names == ["a, b\n.jpg", " c.jpg"] and rows.positions.tolist() == [[1.5, 2], [3, 4]]
    assert rows.headings is not None and rows.headings[0] == 350 and np.isnan(rows.headings[1])
    assert rows.where[1].endswith("line 5")
    gps = read_positions(write(tmp_path / "gps.csv", "latitude,name,longitude\n48.1,x.jpg,16.2\n"))
    assert gps.positions.shape == (1, 3) and gps.headings is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"line 1: the columns are ''"),
        ("name,easting\na,1\n", r"must be name,easting,northing,\[heading\] or name,latitude"),
        ("name,easting,northing,headin\na,1,2,3\n", "unknown column 'headin'; did you mean 'heading'"),
        ("name,easting,northing,easting\na,1,2,3\n", "'easting' is there twice"),
        ("name,easting,northing\n", "no row below the header"),
        ("name,easting,northing\na,1,2\nb,1\n", "line 3: 2 fields, the header has 3"),
        ("name,easting,northing\na,1,2\n\nb,x,2\n", "line 4: easting is 'x'; give a number"),
        ("name,easting,northing\na,1,nan\n", "line 2: northing is 'nan'"),
        ("name,easting,northing\na,1,inf\n", "line 2: northing is 'inf'"),
        ("name,easting,northing\na,1,\n", "line 2: northing is ''"),
        ("name,latitude,longitude\na,91,0\n", "latitude is '91'; give a number from -90 to 90"),
        ("name,easting,northing,heading\na,1,2,north\n", "heading is 'north'"),
        ("name,easting,northing\na,1,2\na,3,4\n", "line 3: 'a' is there already in line 2"),
        ("name,easting,northing\n,1,2\n", "line 2: the name is ''"),
        ('name,easting,northing\n"a,1,2\n', "csv"),
    ],
)
def test_bad_csv_files_are_errors_with_lines(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BadText, match=message):
        read_positions(write(tmp_path / "rows.csv", text))


def test_unreadable_csv_files(tmp_path: Path) -> None:
    (tmp_path / "greek.csv").write_bytes("name,easting,northing\nναός.jpg,1,2\n".encode("cp1253"))
    with pytest.raises(BadText, match=r"line 2: is not UTF-8 \(byte 22"):
        read_positions(tmp_path / "greek.csv")
    with pytest.raises(BadText, match="cannot be read"):
        read_positions(tmp_path / "none.csv")


def test_files_are_digested_and_missing_ones_named(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"a")
    (tmp_path / "b.jpg").write_bytes(b"b")
    rows = write(tmp_path / "rows.csv", "name,easting,northing\na.jpg,0,0\nb.jpg,1,0\n")
    chosen = positions.from_csv(rows, tmp_path, ALL_TRAIN)
    assert chosen.images.sha256[0] == b"ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"
    (tmp_path / "b.jpg").unlink()
    with pytest.raises(BadText, match=r"line 3: 'b\.jpg' cannot be read"):
        positions.from_csv(rows, tmp_path)


def test_a_photograph_under_two_names_is_one_or_a_contradiction(tmp_path: Path) -> None:
    for name, content in {"a": "1", "b": "2", "a again": "1"}.items():
        (tmp_path / name).write_text(content)

    def chosen(twin: str, options: PositionOptions = ALL_TRAIN) -> TrainingSet:
        rows = f"name,easting,northing,heading\na,0,0,10\nb,5,0,20\na again,{twin}\n"
        return positions.from_csv(write(tmp_path / "rows.csv", rows), tmp_path, options)

    found = chosen("9,0,30")
    assert found.images.name.tolist() == ["a", "b"] and found.queries.image.tolist() == [0, 1]
    assert found.summary["warnings"][0] == "same photograph under two names, taken once: 'a again' = 'a'"
    assert chosen("9,0,").images.name.tolist() == ["a", "b"]
    for twin, why in {"11,0,10": "11.0 m apart", "9,0,80": "70 degrees apart"}.items():
        with pytest.raises(Contradiction, match=f"line 4: 'a again' is the same .* 'a' .*line 2.* {why}"):
            chosen(twin)
    chosen("9,0,80", ALL_TRAIN.model_copy(update={"max_heading_change_deg": 180}))


def test_bad_arrays_are_errors() -> None:
    with pytest.raises(BadPositions, match="give"):
        from_positions(["a"], [[0, 0], [1, 1]])
    with pytest.raises(BadPositions, match="'b'"):
        from_positions(["a", "b"], [[0, 0], [float("nan"), 1]])
    with pytest.raises(BadPositions, match="headings"):
        from_positions(["a", "b"], [[0, 0], [1, 1]], [0])
    with pytest.raises(BadEntry, match="every photograph once"):
        from_positions(["a", "a"], [[0, 0], [1, 1]])
    with pytest.raises(NothingToTrainOn, match="add photographs"):
        from_positions(["a", "b"], [[0, 0], [100, 0]])
    with pytest.raises(BadPositions):
        from_positions([], [])
    with pytest.raises(NothingToTrainOn):
        from_positions([], np.empty((0, 2)))
    with pytest.raises(ValidationError, match="cannot be both"):
        PositionOptions(positive_radius_m=30)


def test_ten_metres_in_decimal_coordinates_are_ten_metres() -> None:
    """Differences of decimal numbers are off by some nanometres."""
    places = [[500724.37, 5488275.68], [500727.17, 5488285.28], [1048575.86, 0], [1048600.86, 0]]
    assert np.linalg.norm(np.subtract(places[0], places[1])) > 10
    chosen = from_positions(names_of(4), places, None, ALL_TRAIN)
    assert chosen.queries.image.tolist() == [0, 1]
    assert places[3][0] - places[2][0] > 25
    wide = PositionOptions(val_fraction=0, test_fraction=0, positive_radius_m=25)
    assert from_positions(names_of(4), places, None, wide).queries.image.tolist() == [0, 1, 2, 3]


def test_a_list_of_the_reference_cannot_say_it(tmp_path: Path) -> None:
    with pytest.raises(NotExpressible, match="query by query"):
        street([0, 5, 20, 60]).to_cirtorch(tmp_path / "list.pkl")
    assert not (tmp_path / "list.pkl").exists()
    apart = street([0, 1, 1000, 1002])
    apart.to_cirtorch(tmp_path / "list.pkl")
    assert TrainingSet.from_cirtorch(tmp_path / "list.pkl").queries.image.size == 4
