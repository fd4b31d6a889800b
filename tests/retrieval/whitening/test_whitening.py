import numpy as np
import pytest

from benchmarks.plain_description import whiten as reference
from retrieval.benchmarks.geometry import GeometryBenchmark, mean_over_clusters
from retrieval.benchmarks.harder import AmongAll
from retrieval.whitening.moments import cholesky
from retrieval.whitening.whitening import (
    TooFewPairs,
    Whitening,
    WhiteningOptions,
    learn_pca_whitening,
    learn_whitening,
    training_pairs,
    whiten,
)
from storage.hdf5.file import read, write
from storage.hdf5.open import open_artifact
from tests.official import needs, official

ORACLE = official("oracles", "whiten", "d16_n400_f64.npz")
needs_oracle = needs(ORACLE)


def gram(vectors):
    return vectors @ vectors.T


def pairs_of_clusters(generator, num_clusters=20, views=4, dimension=12, noise=0.2):
    centers = generator.normal(size=(num_clusters, dimension))
    descriptors = np.repeat(centers, views, axis=0)
    descriptors += noise * generator.normal(size=descriptors.shape) * np.linspace(0.1, 3, dimension)
    first = np.arange(num_clusters) * views
    return descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True), first, first + 1


@needs_oracle
@pytest.mark.parametrize("kind", ["lw", "pca"])
def test_oracle(kind):
    case = np.load(ORACLE, allow_pickle=False)
    descriptors = case["X"].T
    if kind == "lw":
        whitening = learn_whitening(descriptors, case["qidxs"], case["pidxs"])
    else:
        whitening = learn_pca_whitening(descriptors)
    np.testing.assert_allclose(whitening.mean, case[f"{kind}_m"][:, 0], atol=1e-12)
    signs = np.sign(np.sum(whitening.projection * case[f"{kind}_P"], axis=1, keepdims=True))
    np.testing.assert_allclose(signs * whitening.projection, case[f"{kind}_P"], atol=1e-9)
    for name, dimensions in (("applied", None), ("applied_half", 8)):
        applied = whitening.apply(descriptors, dimensions)
        np.testing.assert_allclose(gram(applied), gram(case[f"{kind}_{name}"].T), atol=1e-9)


def test_equals_the_reference_on_another_case():
    descriptors, queries, positives = pairs_of_clusters(np.random.default_rng(0), num_clusters=60)
    mean, projection = reference(descriptors, queries, positives)
    whitening = learn_whitening(descriptors, queries, positives)
    wanted = Whitening(mean, projection)
    for dimensions in (None, 5):
        np.testing.assert_allclose(
            gram(whitening.apply(descriptors, dimensions)),
            gram(wanted.apply(descriptors, dimensions)),
            atol=1e-8,
        )


def test_what_whitening_is():
    descriptors, queries, positives = pairs_of_clusters(np.random.default_rng(1), num_clusters=60)
    lw = learn_whitening(descriptors, queries, positives)
    projected = (descriptors - lw.mean) @ lw.projection.T
    difference = projected[queries] - projected[positives]
    np.testing.assert_allclose(difference.T @ difference / len(queries), np.eye(12), atol=1e-8)
    np.testing.assert_allclose(projected.T @ projected, np.diag(lw.eigenvalues), atol=1e-6)
    assert (np.diff(lw.eigenvalues) <= 0).all()
    pca = learn_pca_whitening(descriptors)
    projected = (descriptors - pca.mean) @ pca.projection.T
    np.testing.assert_allclose(projected.T @ projected / len(descriptors), np.eye(12), atol=1e-10)


def test_apply_by_hand():
    whitening = Whitening(np.array([1.0, 1.0]), np.array([[3.0, 0.0], [0.0, 2.0]]))
    applied = whitening.apply(np.array([[2.0, 3.0]]))
    np.testing.assert_allclose(applied, np.array([[3.0, 4.0]]) / (5 + 1e-6), rtol=1e-14)
    np.testing.assert_allclose(whitening.apply(np.array([[2.0, 3.0]]), 1), [[3 / (3 + 1e-6)]], rtol=1e-14)
    weight, bias = whitening.as_linear(2)
    np.testing.assert_allclose(weight @ [2.0, 3.0] + bias, [3.0, 4.0])
    assert whitening.apply(np.ones((2, 2), dtype=np.float32)).dtype == np.float32


def test_blocks_do_not_matter(monkeypatch):
    descriptors, queries, positives = pairs_of_clusters(np.random.default_rng(2))
    whole = learn_whitening(descriptors, queries, positives).apply(descriptors)
    for module in ("retrieval.whitening.moments", "retrieval.whitening.whitening"):
        monkeypatch.setattr(f"{module}.ROWS_PER_BLOCK", 7)
    parts = learn_whitening(descriptors, queries, positives).apply(descriptors)
    np.testing.assert_allclose(gram(parts), gram(whole), atol=1e-8)


def test_order_of_rows_and_rotation_do_not_matter():
    generator = np.random.default_rng(3)
    descriptors, queries, positives = pairs_of_clusters(generator)
    rotation = np.linalg.qr(generator.normal(size=(12, 12)))[0]
    order = generator.permutation(len(descriptors))
    place = np.argsort(order)
    moved = descriptors[order] @ rotation
    for shrinkage in (0.0, 0.3):
        before = learn_whitening(descriptors, queries, positives, shrinkage=shrinkage)
        after = learn_whitening(moved, place[queries], place[positives], shrinkage=shrinkage)
        np.testing.assert_allclose(
            gram(before.apply(descriptors)), gram(after.apply(moved)[place]), atol=1e-7
        )


@pytest.mark.parametrize("shrinkage", [0.0, 0.1])
def test_rank_deficient_input_gives_real_finite_numbers(shrinkage):
    generator = np.random.default_rng(4)
    descriptors, queries, positives = pairs_of_clusters(generator, num_clusters=5, dimension=64)
    unseen = generator.normal(size=(9, 64)).astype(np.float32)
    for whitening in (
        learn_whitening(descriptors, queries, positives, shrinkage=shrinkage),
        learn_whitening(np.repeat(descriptors[:1], 20, axis=0), queries, positives, shrinkage=shrinkage),
        learn_pca_whitening(descriptors),
        learn_pca_whitening(np.repeat(descriptors[:1], 20, axis=0)),
    ):
        for values in (whitening.projection, whitening.eigenvalues, whitening.apply(unseen)):
            assert np.isrealobj(values) and np.isfinite(values).all()


def test_pca_drops_directions_without_variance():
    descriptors = np.random.default_rng(5).normal(size=(10, 30)).astype(np.float32)
    whitening = learn_pca_whitening(descriptors)
    assert np.count_nonzero(whitening.eigenvalues) == 9
    np.testing.assert_array_equal(whitening.projection[9:], 0)
    projected = (descriptors - whitening.mean) @ whitening.projection.T
    np.testing.assert_allclose(projected.T @ projected / 10, np.diag([1.0] * 9 + [0.0] * 21), atol=1e-9)


def test_shrinkage_is_a_share_of_the_mean_variance():
    # S = diag(4, 1) by two pairs; shrinkage 2 adds 2 * 5/2 = 5 to the diagonal
    descriptors = np.array([[0, 0], [2 * np.sqrt(2), 0], [0, 0], [0, np.sqrt(2)]])
    whitening = learn_whitening(descriptors, [0, 2], [1, 3], shrinkage=2.0)
    inner = whitening.projection.T @ whitening.projection  # the inverse of S + 5 I
    np.testing.assert_allclose(inner, np.diag([1 / 9, 1 / 6]), atol=1e-12)


def test_save_and_load(tmp_path):
    descriptors, queries, positives = pairs_of_clusters(np.random.default_rng(6))
    learnt = learn_whitening(descriptors, queries, positives)
    learnt.save(tmp_path / "whitening.h5")
    loaded = Whitening.load(tmp_path / "whitening.h5")
    for name in ("mean", "projection", "eigenvalues"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(learnt, name))
    Whitening(learnt.mean, learnt.projection).save(tmp_path / "bare.h5")
    assert Whitening.load(tmp_path / "bare.h5").eigenvalues is None


def test_bad_input_is_named():
    descriptors, queries, positives = pairs_of_clusters(np.random.default_rng(7))
    whitening = learn_whitening(descriptors, queries, positives)
    with pytest.raises(ValueError, match="13 dimensions asked; this whitening has"):
        whitening.apply(descriptors, 13)
    with pytest.raises(ValueError, match="learnt on 12 dimensions"):
        whitening.apply(descriptors[:, :5])
    with pytest.raises(TooFewPairs, match="no matching pairs"):
        learn_whitening(descriptors, [], [])
    with pytest.raises(ValueError, match="one positive per query"):
        learn_whitening(descriptors, [0, 1], [1])
    for shrinkage in (-1, np.nan, np.inf):
        with pytest.raises(ValueError, match=f"shrinkage is {shrinkage}"):
            learn_whitening(descriptors, queries, positives, shrinkage=shrinkage)
    for wrong, named in ((-1, "row -1"), (len(descriptors), f"row {len(descriptors)}"), (1.5, "float64")):
        with pytest.raises(ValueError, match=f"matching pairs with .*{named}.*leave out the queries"):
            learn_whitening(descriptors, [0, 1], [2, wrong])
    with pytest.raises(ValueError, match=r"descriptors \(12,\)"):
        learn_whitening(descriptors[0], [0], [1])
    with pytest.raises(TooFewPairs, match="at least two"):
        learn_pca_whitening(descriptors[:1])
    broken = descriptors.copy()
    broken[3, 3] = np.nan
    with pytest.raises(ValueError, match="nan"):
        learn_whitening(broken, queries, positives)
    with pytest.raises(ValueError, match="nan"):
        learn_pca_whitening(broken)
    with pytest.raises(ValueError, match="nan"):
        cholesky(np.full((2, 2), np.nan), 0.0)


# the step


def split_collection(generator, dimension=24, num_clusters=24, views=4):
    """(training_set.h5 arrays, descriptors): clusters of 4 views; 12 train, 6 val, 6 test."""
    descriptors, _, _ = pairs_of_clusters(generator, num_clusters, views, dimension, noise=0.6)
    cluster = np.repeat(np.arange(num_clusters), views)
    split = np.repeat(np.r_[np.zeros(12), np.ones(6), np.full(6, 2)], views).astype(np.int8)
    num_images, queries = len(cluster), np.arange(0, num_clusters * views, views)
    mates = (queries[:, None] + np.arange(1, views)).astype(np.int64)
    indptr = np.arange(len(queries) + 1) * (views - 1)
    arrays = {
        "images/name": [f"{i:03}.jpg" for i in range(num_images)],
        "images/sha256": np.array([f"{i:064x}" for i in range(num_images)], dtype="S64"),
        "images/cluster": cluster,
        "images/model": cluster,
        "images/split": split,
        "images/registered": np.ones(num_images, dtype=bool),
        "queries/image": queries,
        "queries/split": split[queries],
        "candidates/indptr": np.zeros(len(queries) + 1, dtype=np.int64),
        "candidates/image": np.empty(0, dtype=np.int64),
        "candidates/shared_points": np.empty(0, dtype=np.int64),
        "candidates/overlap": np.empty(0, dtype=np.float32),
        "candidates/scale_change": np.empty(0, dtype=np.float32),
        "candidates/center_distance_rank": np.empty(0, dtype=np.int64),
        "positives/m1_pool/indptr": indptr,
        "positives/m1_pool/image": mates.ravel(),
        "positives/m2": np.where(np.arange(len(queries)) == 1, -1, mates[:, 0]),
        "positives/m3/indptr": indptr,
        "positives/m3/image": mates.ravel(),
        "negatives/image": np.empty(0, dtype=np.int64),
        "negatives/cluster": np.empty(0, dtype=np.int64),
        "negatives/max_inliers": np.empty(0, dtype=np.int64),
        "negatives/allowed": np.empty(0, dtype=bool),
    }
    for name, number in (("val", 1), ("test", 2)):
        of_split = split[queries] == number
        arrays[f"benchmark/{name}/queries"] = queries[of_split]
        arrays[f"benchmark/{name}/database"] = np.flatnonzero(split == number)
        offsets = np.arange(of_split.sum() + 1)
        for label, columns in (("easy", mates[of_split, :1]), ("hard", mates[of_split, 1:])):
            arrays[f"benchmark/{name}/{label}/indptr"] = offsets * columns.shape[1]
            arrays[f"benchmark/{name}/{label}/image"] = columns.ravel()
        arrays[f"benchmark/{name}/junk/indptr"] = offsets
        arrays[f"benchmark/{name}/junk/image"] = queries[of_split]
    return arrays, descriptors.astype(np.float32)


@pytest.fixture
def collection(tmp_path):
    arrays, descriptors = split_collection(np.random.default_rng(8))
    path = tmp_path / "training_set.h5"
    write(path, "training_set", arrays, stage="select", options={}, inputs=())
    return path, arrays, descriptors


def test_pairs_are_those_of_train_once(collection):
    _, arrays, _ = collection
    assert len(training_pairs(arrays, "m2")) == 11  # the second query has no m2
    pairs = training_pairs(arrays, "m2+m3")
    assert len(pairs) == 36 and len(training_pairs(arrays, "m3")) == 36
    assert (np.asarray(arrays["images/split"])[pairs] == 0).all()
    assert (
        np.asarray(arrays["images/cluster"])[pairs[:, 0]] == np.asarray(arrays["images/cluster"])[pairs[:, 1]]
    ).all()


def test_step_records_the_grid_and_learns_the_best_of_it(collection, tmp_path):
    path, arrays, descriptors = collection
    choice = whiten(path, descriptors, WhiteningOptions(), out=tmp_path / "whitening.h5")
    with open_artifact(tmp_path / "whitening.h5") as artifact:
        assert artifact.schema == "whitening" and artifact.attributes["shrinkage"] == choice.shrinkage
        assert artifact.attributes["method"] == "lw" and len(artifact.inputs) == 1
    stored = read(tmp_path / "whitening.h5")
    grid, measured = stored["shrinkage_grid/value"], stored["shrinkage_grid/map_val"]
    np.testing.assert_array_equal(grid, WhiteningOptions().shrinkage_grid)
    assert choice.shrinkage == grid[measured == measured.max()].max()
    assert measured.max() > measured.min()  # else the choice would mean nothing
    pairs = training_pairs(arrays, "m2+m3")
    train = np.asarray(arrays["images/split"]) == 0
    wanted = learn_whitening(descriptors[train], pairs[:, 0], pairs[:, 1], shrinkage=choice.shrinkage)
    np.testing.assert_array_equal(stored["projection"], wanted.projection)


@pytest.mark.parametrize("database", ["val", "all"])
def test_step_never_reads_test(collection, tmp_path, database):
    path, arrays, descriptors = collection
    options = WhiteningOptions(val_database=database)
    before = whiten(path, descriptors, options, out=tmp_path / "before.h5")
    descriptors[np.asarray(arrays["images/split"]) == 2] = np.nan
    after = whiten(path, descriptors, options, out=tmp_path / "after.h5")
    np.testing.assert_array_equal(before.whitening.projection, after.whitening.projection)


def test_the_shrinkage_is_chosen_among_photographs_of_train_and_by_cluster(collection, tmp_path):
    path, arrays, descriptors = collection
    among = WhiteningOptions(val_database="all", val_mean="clusters")
    standing, chosen = (
        whiten(path, descriptors, options, out=tmp_path / "w.h5") for options in (WhiteningOptions(), among)
    )
    train, images = (np.flatnonzero(np.isin(arrays["images/split"], splits)) for splits in ([0], [0, 1]))
    pairs = training_pairs(arrays, "m2+m3")
    benchmark = GeometryBenchmark.from_arrays(arrays, "val")
    for shrinkage, measured in chosen.tried.items():
        lw = learn_whitening(descriptors[train], pairs[:, 0], pairs[:, 1], shrinkage=shrinkage)
        rows = lw.apply(descriptors)
        every = AmongAll.of(arrays, benchmark, without_test=True)
        precisions = every.precisions(rows[benchmark.queries], rows[images])
        assert measured == pytest.approx(mean_over_clusters(precisions, benchmark.clusters))
        assert measured <= standing.tried[shrinkage] + 1e-12  # more photographs, none of them right
    assert chosen.tried != standing.tried


def test_ties_go_to_the_larger_shrinkage_and_no_query_to_the_fallback(tmp_path):
    arrays, _ = split_collection(np.random.default_rng(9))
    perfect = np.eye(24, dtype=np.float32)[np.asarray(arrays["images/cluster"])]
    perfect += np.random.default_rng(0).normal(scale=1e-3, size=perfect.shape).astype(np.float32)
    write(tmp_path / "easy.h5", "training_set", arrays, stage="select", options={}, inputs=())
    assert whiten(tmp_path / "easy.h5", perfect, WhiteningOptions(), out=tmp_path / "w.h5").shrinkage == 10.0
    for name in ("queries", "easy/image", "hard/image", "junk/image"):
        arrays[f"benchmark/val/{name}"] = np.empty(0, dtype=np.int64)
    for name in ("easy", "hard", "junk"):
        arrays[f"benchmark/val/{name}/indptr"] = np.zeros(1, dtype=np.int64)
    write(tmp_path / "none.h5", "training_set", arrays, stage="select", options={}, inputs=())
    assert whiten(tmp_path / "none.h5", perfect, WhiteningOptions(), out=tmp_path / "w.h5").shrinkage == 1.0
    assert np.isnan(read(tmp_path / "w.h5")["shrinkage_grid/map_val"]).all()


def test_step_pcaw(collection, tmp_path):
    path, arrays, descriptors = collection
    choice = whiten(path, descriptors, WhiteningOptions(method="pcaw"), out=tmp_path / "pcaw.h5")
    train = np.asarray(arrays["images/split"]) == 0
    np.testing.assert_array_equal(
        choice.whitening.projection, learn_pca_whitening(descriptors[train]).projection
    )
    with open_artifact(tmp_path / "pcaw.h5") as artifact:
        assert artifact.attributes["method"] == "pcaw"
    with pytest.raises(ValueError, match="5 descriptors for 96 images"):
        whiten(path, descriptors[:5], WhiteningOptions(), out=tmp_path / "w.h5")


def test_options():
    with pytest.raises(ValueError, match="greater than or equal to 0"):
        WhiteningOptions(shrinkage_grid=(-1.0,))
