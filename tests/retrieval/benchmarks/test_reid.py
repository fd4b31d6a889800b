import numpy as np
import pytest

from retrieval.benchmarks.reid import InvalidGallery, evaluate_reid, market_gallery, parse_names
from tests.official import listed, needs, official

TRUTH = official("groundtruth", "market1501")
ORACLES = listed("*.npz", "oracles", "reid")


@needs(official("oracles", "reid"))
@pytest.mark.parametrize("path", ORACLES, ids=lambda path: path.stem)
def test_oracle(path, monkeypatch):
    monkeypatch.setattr("retrieval.benchmarks.reid.ROWS_PER_BLOCK", 7)
    case = np.load(path, allow_pickle=False)
    arrays = (case[name] for name in ("distmat", "q_pids", "g_pids", "q_camids", "g_camids"))
    result = evaluate_reid(*arrays, int(case["max_rank"]))
    np.testing.assert_allclose(result.cmc, case["cmc"], atol=1e-6)
    np.testing.assert_allclose(result.cmc, case["fastreid_cmc"], atol=1e-6)
    assert result.mean_average_precision == pytest.approx(float(case["mAP"]), abs=1e-12)
    assert result.mean_inverse_negative_penalty == pytest.approx(float(case["mINP"]), abs=1e-12)
    counted = np.isfinite(result.average_precisions)
    np.testing.assert_allclose(result.average_precisions[counted], case["fastreid_all_AP"], atol=1e-12)
    np.testing.assert_allclose(
        result.inverse_negative_penalties[counted], case["fastreid_all_INP"], atol=1e-12
    )


def test_by_hand():
    # the nearest is the same person seen by the same camera: taken out; then hits at 2 and 3 of 3
    result = evaluate_reid([[0.0, 0.1, 0.2, 0.3]], [7], [7, 8, 7, 7], [1], [1, 1, 2, 3], max_rank=3)
    np.testing.assert_allclose(result.cmc, [0, 1, 1])
    assert result.mean_average_precision == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert result.mean_inverse_negative_penalty == pytest.approx(2 / 3)


def test_kept_gallery_shorter_than_max_rank():
    result = evaluate_reid([[0.0, 0.1], [0.1, 0.0]], [1, 2], [1, 2], [0, 5], [0, 1], max_rank=50)
    # query 0 loses its only match and is not counted; query 1 keeps both
    assert result.cmc.tolist() == [1.0, 1.0] and np.isnan(result.average_precisions[0])
    short = evaluate_reid([[0.2, 0.1, 0.0]], [1], [1, 1, 1], [0], [3, 0, 0], max_rank=3)
    np.testing.assert_array_equal(short.cmc, [1.0, 1.0, 1.0])


def test_order_of_the_gallery_does_not_matter():
    generator = np.random.default_rng(0)
    distances = generator.random((20, 90))
    ids, gallery = generator.integers(9, size=20), generator.integers(9, size=90)
    cameras, seen_by = generator.integers(3, size=20), generator.integers(3, size=90)
    order = generator.permutation(90)
    first = evaluate_reid(distances, ids, gallery, cameras, seen_by)
    second = evaluate_reid(distances[:, order] * 3, ids, gallery[order], cameras, seen_by[order])
    np.testing.assert_array_equal(first.average_precisions, second.average_precisions)
    np.testing.assert_array_equal(first.cmc, second.cmc)


def test_names():
    names = ["query/0002_c1s1_000451_03.jpg", "-1_c6s3_000001_00.jpg", "0001_c018_00016450_0.jpg"]
    ids, cameras = parse_names(names)
    assert ids.tolist() == [2, -1, 1] and cameras.tolist() == [1, 6, 18]
    assert market_gallery(np.array([-1, 0, 3])).tolist() == [1, 2]
    with pytest.raises(InvalidGallery, match="'photo\\.jpg'"):
        parse_names(["photo.jpg"])


@needs(TRUTH)
def test_market_counts():
    def names(which):
        path = TRUTH / f"market1501_{which}.csv"
        return [line.split(",")[1] for line in path.read_text().split()]

    (ids, cameras), (gallery, seen_by) = parse_names(names("query")), parse_names(names("test"))
    kept = market_gallery(gallery)
    assert (len(ids), len(kept), len(np.unique(ids))) == (3368, 15913, 750)
    gallery, seen_by = gallery[kept], seen_by[kept]
    rows = slice(0, 300)
    same = ids[rows, None] == gallery
    perfect = evaluate_reid(1.0 - same, ids[rows], gallery, cameras[rows], seen_by)
    assert perfect.mean_average_precision == pytest.approx(1.0) and perfect.cmc[0] == 1.0
    worst = evaluate_reid(same.astype(float), ids[rows], gallery, cameras[rows], seen_by)
    matches = (same & (seen_by != cameras[rows, None])).sum(axis=1)
    junk = (same & (seen_by == cameras[rows, None])).sum(axis=1)
    last = len(gallery) - junk[0]
    places = np.arange(last - matches[0] + 1, last + 1)
    assert worst.average_precisions[0] == pytest.approx(np.mean(np.arange(1, matches[0] + 1) / places))


def test_bad_input_is_named():
    with pytest.raises(InvalidGallery, match="no query has a match"):
        evaluate_reid([[0.0]], [1], [2], [0], [1])
    with pytest.raises(InvalidGallery, match=r"distances are \(1, 2\)"):
        evaluate_reid([[0.0, 1.0]], [1], [2], [0], [1])
    with pytest.raises(InvalidGallery, match="nan"):
        evaluate_reid([[np.nan]], [1], [1], [0], [1])
    with pytest.raises(InvalidGallery, match="max_rank is 0"):
        evaluate_reid([[0.0]], [1], [1], [0], [1], max_rank=0)
