"""From descriptors to benchmark.h5: the same numbers as the metric on whole ranks, whitening, expansion."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from report.sheets.benchmark import NothingMeasured, sheet_rows
from report.tables.benchmark import read_result, render, table_rows, title, to_csv, to_latex
from retrieval.benchmarks.landmarks import evaluate_revisited
from retrieval.benchmarks.reid import evaluate_reid
from retrieval.nearest.expansion import Reranking, alpha_query_expansion, rerank_by_neighbours, reranked
from retrieval.official import scoring
from retrieval.official.distractors import NoDistractors, distractor_images
from retrieval.official.ranking import listed_in
from retrieval.official.readers.common import Benchmark, BenchmarkImage, Ranking
from retrieval.official.readers.files import MissingBenchmarkFile
from retrieval.official.registry import read_benchmark
from retrieval.official.reranking import rerank_database
from retrieval.official.scoring import BenchmarkOptions, DescribedBenchmark, score_descriptors
from retrieval.whitening.whitening import Whitening, learn_pca_whitening
from storage.hdf5.open import validate

GENERATOR = np.random.default_rng(0)


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def revisited(tmp_path) -> Benchmark:
    """A made-up ROxford of 5 queries and 90 images with random labels."""
    import pickle

    generator = np.random.default_rng(1)
    images = [f"i{number:02}" for number in range(90)]
    gnd = []
    for _ in range(5):
        easy, hard, junk = np.split(generator.permutation(90)[:40], [10, 25])
        gnd.append({"bbx": [0, 0, 9, 9], "easy": easy, "hard": hard, "junk": junk})
    gnd[4]["easy"] = np.array([], int)
    content = {"imlist": images, "qimlist": [f"q{q}" for q in range(5)], "gnd": gnd}
    (tmp_path / "jpg").mkdir()
    for name in (*images, *content["qimlist"]):
        (tmp_path / "jpg" / f"{name}.jpg").touch()
    (tmp_path / "gnd_roxford5k.pkl").write_bytes(pickle.dumps(content))
    return read_benchmark("roxford5k", tmp_path)


def labels_of(benchmark):
    from retrieval.official.readers.ground_truth import read_pickle

    return read_pickle(benchmark.root / "gnd_roxford5k.pkl").labels


def described(queries, database, step=17, distractors=()):
    return DescribedBenchmark(
        queries, lambda: (database[i : i + step] for i in range(0, len(database), step)), distractors
    )


def test_as_the_metric_on_whole_ranks(revisited, tmp_path):
    queries, database = unit(GENERATOR.normal(size=(5, 16))), unit(GENERATOR.normal(size=(110, 16)))
    extra = [f"far {n}" for n in range(20)]
    options = BenchmarkOptions(benchmark="roxford5k", depth=110)
    found = score_descriptors(
        revisited, described(queries, database, distractors=extra), options, out=tmp_path / "b.h5"
    )
    lists = np.argsort(-(queries @ database.T), axis=1, kind="stable")
    expected = evaluate_revisited(lists, labels_of(revisited))
    for row in found.rows:
        protocol = getattr(expected, row.protocol)
        k = row.metric.rpartition("@")[2]
        value = protocol.mean_precision_at[int(k)] if k.isdecimal() else protocol.mean_average_precision
        assert row.value == pytest.approx(value, abs=1e-12), row
        assert row.num_queries == protocol.num_queries
    np.testing.assert_array_equal(found.per_query["AP hard"], expected.hard.average_precisions)
    result = read_result(tmp_path / "b.h5")
    np.testing.assert_array_equal(result.ranks, lists)
    assert result.distractors == {90 + n: name for n, name in enumerate(extra)}
    assert result.facts["benchmark"] == "roxford5k + 20 distractors"


@pytest.mark.parametrize("repeated", [False, True])
def test_ranks_with_repeated_ids_count_as_in_the_metric(revisited, repeated):
    lists = np.stack([GENERATOR.permutation(90) for _ in range(5)])[:, :60]
    if repeated:
        lists[:, 30:] = lists[:, :30]
    found = revisited.score(Ranking(lists, None, listed_in(lists, revisited.labelled)))
    expected = evaluate_revisited(lists, labels_of(revisited))
    np.testing.assert_array_equal(found.per_query["AP medium"], expected.medium.average_precisions)
    np.testing.assert_array_equal(found.per_query["P@5 easy"], expected.easy.precision_at[5])


def test_reid_as_the_metric_on_whole_distances(tmp_path):
    ids, cameras = np.arange(1, 7), np.arange(6) % 2 + 1
    gallery, seen_by = GENERATOR.integers(0, 7, 60), GENERATOR.integers(1, 4, 60)
    for folder, who, where in (("query", ids, cameras), ("bounding_box_test", gallery, seen_by)):
        (tmp_path / folder).mkdir()
        for number, (i, c) in enumerate(zip(who, where, strict=True)):
            (tmp_path / folder / f"{i:04d}_c{c}s1_{number:06d}_00.jpg").touch()
    benchmark = read_benchmark("market1501", tmp_path)
    queries, database = unit(GENERATOR.normal(size=(6, 5))), unit(GENERATOR.normal(size=(60, 5)))
    found = score_descriptors(
        benchmark,
        described(queries, database),
        BenchmarkOptions(benchmark="market1501"),
        out=tmp_path / "b.h5",
    )
    order = np.argsort(
        [f"{i:04d}_c{c}s1_{n:06d}" for n, (i, c) in enumerate(zip(gallery, seen_by, strict=True))]
    )
    assert [name[:-4] for name in benchmark.database_names] == [
        f"bounding_box_test/{gallery[n]:04d}_c{seen_by[n]}s1_{n:06d}_00" for n in order
    ]
    expected = evaluate_reid(
        -(queries @ database.T), ids, gallery[order], cameras, seen_by[order], max_rank=50
    )
    rows = {row.metric: row.value for row in found.rows}
    assert rows["mAP"] == pytest.approx(expected.mean_average_precision, abs=1e-12)
    assert rows["mINP"] == pytest.approx(expected.mean_inverse_negative_penalty, abs=1e-12)
    assert [rows[f"rank-{k}"] for k in (1, 5, 10)] == [pytest.approx(expected.cmc[k - 1]) for k in (1, 5, 10)]


def test_whitening_and_dimensions(revisited, tmp_path):
    queries, database = unit(GENERATOR.normal(size=(5, 16))), unit(GENERATOR.normal(size=(90, 16)))
    learnt = learn_pca_whitening(database)
    learnt.save(tmp_path / "w.h5")
    options = BenchmarkOptions(benchmark="roxford5k", whitening=tmp_path / "w.h5", dimensions=4)
    found = score_descriptors(revisited, described(queries, database), options, out=tmp_path / "b.h5")
    lists = np.argsort(-(learnt.apply(queries, 4) @ learnt.apply(database, 4).T), axis=1, kind="stable")
    expected = evaluate_revisited(lists, labels_of(revisited))
    np.testing.assert_allclose(found.per_query["AP medium"], expected.medium.average_precisions)
    assert read_result(tmp_path / "b.h5").facts["dimensions"] == "4"
    with pytest.raises(ValueError, match="dimensions without a whitening"):
        BenchmarkOptions(benchmark="roxford5k", dimensions=4)


def test_a_published_checkpoint_gives_its_own_whitening(tmp_path):
    import torch

    learnt = {"m": np.arange(3.0).reshape(3, 1), "P": np.eye(3)}
    other = {"m": np.zeros((3, 1)), "P": 2 * np.eye(3)}
    content = {"meta": {"Lw": {"a-set": {"ss": other}, "retrieval-SfM-120k": {"ss": other, "ms": learnt}}}}
    torch.save(content, tmp_path / "n.pth")
    many = BenchmarkOptions(
        benchmark="roxford5k", whitening=tmp_path / "n.pth", description={"scales": (1.0, 0.5)}
    )
    found = scoring.read_whitening(many)
    assert isinstance(found, Whitening) and found.mean.tolist() == [0, 1, 2]
    one = BenchmarkOptions(benchmark="roxford5k", whitening=tmp_path / "n.pth")
    assert scoring.read_whitening(one).projection[0, 0] == 2
    torch.save({"meta": {}}, tmp_path / "n.pth")
    with pytest.raises(ValueError, match=r"holds no learnt whitening \(ss\)"):
        scoring.read_whitening(one)


@pytest.mark.parametrize("own", [None, np.array([4, -1, 7, 8, 0])])
def test_expansion_over_blocks_is_that_over_everything(own):
    database = unit(GENERATOR.normal(size=(60, 8)))
    queries = unit(database[[4, 5, 7, 8, 0]] + 0.2 * GENERATOR.normal(size=(5, 8)))
    options = BenchmarkOptions(benchmark="oxford5k", expansion_neighbours=6, expansion_alpha=2)
    blocks = described(queries, database, 13).blocks
    found = scoring.expanded(queries, blocks, 60, own, options)
    expected = alpha_query_expansion(queries, database, 6, 2, leave_out=own)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("how", [Reranking(top=30, neighbours=4, beta=0.6), Reranking(top=500, beta=0.6)])
def test_reranked_as_the_metric_on_whole_ranks(revisited, how, tmp_path):
    queries, database = unit(GENERATOR.normal(size=(5, 16))), unit(GENERATOR.normal(size=(110, 16)))
    options = BenchmarkOptions(benchmark="roxford5k", depth=20, reranking=how)
    given = described(queries, database, distractors=[f"far {n}" for n in range(20)])
    found = score_descriptors(revisited, given, options, out=tmp_path / "b.h5")
    before = np.argsort(-(queries @ database.T), axis=1, kind="stable")
    lists = rerank_by_neighbours(queries, database, before, **dict(how))
    assert (lists[:, :20] != before[:, :20]).any()
    expected = evaluate_revisited(lists, labels_of(revisited))
    for name in ("easy", "medium", "hard"):
        precisions = getattr(expected, name).average_precisions
        np.testing.assert_allclose(found.per_query[f"AP {name}"], precisions, atol=1e-12)
    result = read_result(tmp_path / "b.h5")
    np.testing.assert_array_equal(result.ranks, lists[:, :20])
    assert result.facts["expansion"] == f"neighbours, M={how.top}, K={how.neighbours}, beta=0.6"
    assert f"K={how.neighbours}, beta=0.6" in title(result)
    assert not list(tmp_path.glob("b.h5-rows-*")) and validate(tmp_path / "b.h5") == []


def test_reranking_over_blocks_leaves_the_querys_own_image_out(revisited, tmp_path):
    database = unit(GENERATOR.normal(size=(90, 8)))
    own, how = np.array([4, -1, 7, 88, 0]), Reranking(top=12, neighbours=3, beta=0.5)
    queries = unit(database[np.abs(own)] + 0.01 * GENERATOR.normal(size=(5, 8)))
    queries[3] = -database[88]  # its own image is the last of all
    scores = queries @ database.T
    before = np.argsort(-scores, axis=1, kind="stable")
    expected = reranked(
        queries, database, before, np.take_along_axis(scores, before, axis=1), leave_out=own, **dict(how)
    )[1]
    blocks, benchmark = described(queries, database, 13).blocks, replace(revisited, own=own)
    found = rerank_database(queries, blocks, 10, benchmark, how, beside=tmp_path / "b.h5")
    np.testing.assert_array_equal(found.ranks, expected[:, :10])
    for got, wanted in zip(found.listed, listed_in(expected, benchmark.labelled), strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_reranking_that_cannot_be_is_named():
    with pytest.raises(ValueError, match=r"reranking[\s\S]*M \(top\) 5, K \(neighbours\) 9"):
        BenchmarkOptions(benchmark="roxford5k", reranking={"top": 5})
    both = BenchmarkOptions(benchmark="roxford5k", reranking={}, expansion_neighbours=50)
    assert both.expansion == "alpha=3, k=50; neighbours, M=400, K=9, beta=0.15"
    assert BenchmarkOptions(benchmark="roxford5k").expansion == ""


def test_a_sequence_is_the_mean_of_its_frames():
    rows = np.array([[1, 0], [0, 1], [0, 1], [0, 1]], np.float32)
    np.testing.assert_allclose(scoring.sequence_mean(rows, 2), [[2**-0.5, 2**-0.5], [0, 1]], atol=1e-6)
    assert scoring.sequence_mean(rows, 1) is rows


@pytest.fixture
def result(revisited, tmp_path):
    queries, database = unit(GENERATOR.normal(size=(5, 16))), unit(GENERATOR.normal(size=(90, 16)))
    score_descriptors(
        revisited,
        described(queries, database),
        BenchmarkOptions(benchmark="roxford5k", expansion_neighbours=2),
        out=tmp_path / "b.h5",
        attributes={"network": "my_net & co.pth", "whitening": "raw"},
    )
    return read_result(tmp_path / "b.h5")


def test_tables(result):
    from rich.console import Console

    table = render(result)
    assert [column.header for column in table.columns] == [
        "protocol", "mAP", "mP@1", "mP@5", "mP@10", "queries",
    ]  # fmt: skip
    with Console(width=200, record=True) as console:
        console.print(table)
    assert "alpha=3, k=2" in title(result) and "my_net & co.pth" in console.export_text()
    lines = to_csv(result).splitlines()
    assert len(lines) == 1 + 12 and lines[0].startswith("benchmark,network,whitening")
    assert lines[1].startswith('roxford5k,my_net & co.pth,raw,1024,1,all,"alpha=3, k=2",,medium,mAP,')
    latex = to_latex(result)
    assert r"protocol & mAP & mP@1" in latex and latex.count(r"\\") == 4
    rows = table_rows(result)
    assert [row["protocol"] for row in rows] == ["medium", "hard", "easy"] and rows[2]["queries"] == 4


def test_best_and_worst_queries(result, revisited):
    values = result.per_query["AP medium"]
    rows = sheet_rows(result, revisited, count=2)
    order = np.argsort(-values, kind="stable")
    assert [row[0].index for row in rows] == [order[0], order[1], order[-1], order[-2]]
    assert rows[0][0].caption == f"AP medium {100 * values.max():.1f}"
    labels = labels_of(revisited)[order[0]]
    for tile in rows[0][1:]:
        wanted = "wrong"
        if tile.index in labels["junk"]:
            wanted = "ignored"
        elif tile.index in (*labels["easy"], *labels["hard"]):
            wanted = "positive"
        assert tile.verdict == wanted
    nothing = result.__class__(**{**vars(result), "per_query": {"AP": np.full(5, np.nan)}})
    with pytest.raises(NothingMeasured, match="no query of roxford5k counts"):
        sheet_rows(nothing, revisited)


def test_distractors_are_listed_by_path(revisited, tmp_path):
    folder = tmp_path / "more"
    for name in ("b/ö 1.jpg", "a.JPG", ".hidden.jpg", "b/readme.txt", "b/c/z.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    found = distractor_images(folder, revisited)
    assert found == [BenchmarkImage(name) for name in ("a.JPG", "b/c/z.png", "b/ö 1.jpg")]
    with pytest.raises(MissingBenchmarkFile, match="is no folder"):
        distractor_images(tmp_path / "no", revisited)
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingBenchmarkFile, match=r"no \.jpg or \.png"):
        distractor_images(tmp_path / "empty", revisited)
    without = revisited.__class__(**{**vars(revisited), "distractors": False})
    with pytest.raises(NoDistractors, match="measured without"):
        distractor_images(folder, without)


def test_the_digest_says_what_the_score_depends_on(revisited):
    other = vars(revisited).copy()
    for name in ("labelled", "digest"):
        other.pop(name, None)
    same = Benchmark(**{**other, "root": Path("/elsewhere")})
    assert same.digest == revisited.digest
    moved = (BenchmarkImage(revisited.queries[0].file, (0, 0, 9, 8)), *revisited.queries[1:])
    relabelled = [{**query, "easy": query["hard"], "hard": query["easy"]} for query in revisited.facts]
    changes = {"queries": moved, "positives": revisited.positives[::-1], "notes": ("x",), "facts": relabelled}
    for change in ({name: value} for name, value in changes.items()):
        assert Benchmark(**{**other, **change}).digest != revisited.digest


def test_a_crop_is_an_item_of_its_own(tmp_path):
    from retrieval.describe.describe import extract
    from retrieval.describe.options import ExtractionOptions
    from retrieval.networks.network import build_network, save_network
    from retrieval.networks.options import NetworkOptions
    from retrieval.official.description import describe_chunk, input_of, item_of
    from storage.hdf5 import file as hdf5

    sha, box = "a" * 64, (8.0, 0.0, 56.0, 40.0)
    assert item_of(sha, None) == sha and item_of(sha, box) != item_of(sha, (8.0, 0.0, 56.0, 41.0))
    assert len({input_of(sha, None, "n"), input_of(sha, box, "n"), input_of(sha, None, "m")}) == 3
    network = build_network(NetworkOptions(backbone="squeezenet1_1", weights="random"))
    save_network(network, tmp_path / "n.safetensors")
    pixels = GENERATOR.integers(0, 256, (48, 64, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned upright, which the references do not do
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    items = {item_of(sha, None): None, item_of(sha, box): box}
    found = describe_chunk(
        tmp_path / "n.safetensors",
        [(item, tmp_path / "a.png", part) for item, part in items.items()],
        ExtractionOptions(image_size=64),
        out=tmp_path / "d.h5",
        input_digests={item: input_of(sha, part, "n") for item, part in items.items()},
    )
    assert set(found["items"]) == set(items)
    expected = extract(network, [pixels, np.ascontiguousarray(pixels[:40, 8:56])], image_size=64)
    for (_, arrays), row in zip(hdf5.read_items(tmp_path / "d.h5", list(items)), expected, strict=True):
        np.testing.assert_allclose(arrays["global_descriptor"], row, atol=1e-5)
