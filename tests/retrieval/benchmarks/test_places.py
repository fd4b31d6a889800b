import numpy as np
import pytest

from retrieval.benchmarks.places import (
    InvalidPlaces,
    evaluate_places,
    one_per_panorama,
    positives_within,
    read_npz_utm,
    utm_from_names,
)
from tests.official import listed, needs, official

TRUTH = official("groundtruth")
ORACLES = listed("*.npz", "oracles", "vpr")


@needs(official("oracles", "vpr"))
@pytest.mark.parametrize("path", ORACLES, ids=lambda path: path.stem)
def test_oracle(path):
    case = np.load(path, allow_pickle=False)
    positives = positives_within(case["q_utm"], case["db_utm"], float(case["threshold"]))
    for q, found in enumerate(positives):
        wanted = case["pos"][case["pos_off"][q] : case["pos_off"][q + 1]]
        np.testing.assert_array_equal(found, np.sort(wanted))
    ns = tuple(int(n) for n in case["recall_values"])
    recall = evaluate_places(case["predictions"], positives, ns).recall_at
    np.testing.assert_allclose([100 * recall[n] for n in ns], case["recalls_percent"], atol=1e-9)


def test_radius_is_included():
    positives = positives_within([[0.0, 0.0]], [[15.0, 20.0], [25.0, 0.0], [0.0, 25.000001], [-25.0, 0.0]])
    np.testing.assert_array_equal(positives[0], [0, 1, 3])
    assert positives_within([[0, 0]], np.empty((0, 2)))[0].size == 0


def test_query_without_positives_is_a_failure():
    result = evaluate_places([[4, 2, 1], [0, 1, 2]], [[2], []], ns=(1, 2, 9))
    assert result.recall_at == {1: 0.0, 2: 0.5, 9: 0.5}
    assert (result.num_queries, result.num_without_positives) == (2, 1)
    np.testing.assert_array_equal(result.found_at, [2, 0])


def test_one_per_panorama():
    ranks = [[13, 12, 0, 25, 11, 24], [5, 17, 29, 30, -1, -1]]
    kept = one_per_panorama(ranks)
    np.testing.assert_array_equal(kept, [[13, 0, 25, -1, -1, -1], [5, 17, 29, -1, -1, -1]])
    # the positive 25 moves from place 4 to 3; the pad is no positive
    assert evaluate_places(kept, [[25], [-1]], ns=(3,)).recall_at == {3: 0.5}


def test_names():
    np.testing.assert_array_equal(
        utm_from_names(["database/@0584744.97@4476709.92@17@T@.jpg"]), [[584744.97, 4476709.92]]
    )
    with pytest.raises(InvalidPlaces, match=r"'a@b\.jpg' holds no UTM"):
        utm_from_names(["a@b.jpg"])


@needs(TRUTH)
@pytest.mark.parametrize(
    ("name", "counts"), [("pitts30k/pitts30k_test", (6816, 10000)), ("tokyo247/tokyo247", (315, 75984))]
)
def test_official_counts_and_extremes(name, counts):
    queries, database, radius = read_npz_utm(TRUTH / f"{name}.npz")
    assert (len(queries), len(database)) == counts and radius == 25.0
    positives = positives_within(queries, database, radius)
    has = np.array([len(found) > 0 for found in positives])
    near = np.array([found[0] if len(found) else 0 for found in positives])[:, None]
    assert evaluate_places(near, positives, ns=(1,)).recall_at[1] == has.mean() > 0.98
    nothing = np.full((len(queries), 5), -1)
    assert evaluate_places(nothing, positives).recall_at == {1: 0.0, 5: 0.0, 10: 0.0, 20: 0.0}
    offsets = np.hypot(*(database[positives[7]] - queries[7]).T)
    assert offsets.max() <= 25.0 and len(offsets) == (np.hypot(*(database - queries[7]).T) <= 25.0).sum()


def test_bad_input_is_named(tmp_path):
    with pytest.raises(InvalidPlaces, match="one row per query"):
        evaluate_places([[1]], [[1], [2]])
    with pytest.raises(InvalidPlaces, match="east, north"):
        positives_within([[0, 0, 0]], [[0, 0]])
    with pytest.raises(InvalidPlaces, match="is missing"):
        read_npz_utm(tmp_path / "no.npz")
    np.savez(tmp_path / "other.npz", utmQ=np.zeros((1, 2)))
    with pytest.raises(InvalidPlaces, match="posDistThr, utmDb"):
        read_npz_utm(tmp_path / "other.npz")
    with pytest.raises(InvalidPlaces, match="size 0"):
        one_per_panorama([[1]], size=0)


def test_bad_ranks_and_radius_are_named():
    for ranks in ([[1.5]], [[float("nan")]], [["a"]]):
        with pytest.raises(InvalidPlaces, match="expected integers"):
            evaluate_places(ranks, [[1]])
        with pytest.raises(InvalidPlaces, match="expected integers"):
            one_per_panorama(ranks)
    for radius in (-1.0, float("nan")):
        with pytest.raises(InvalidPlaces, match="radius_m is"):
            positives_within([[0, 0]], [[0, 0]], radius)
