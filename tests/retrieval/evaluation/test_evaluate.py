import io
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from report.page.evaluation import evaluation_section
from report.tables.evaluation import read_table, render, scale_names
from retrieval.benchmarks.geometry import GeometryBenchmark, geometry_map
from retrieval.benchmarks.harder import AmongAll
from retrieval.describe.harder_queries import CHANGES
from retrieval.evaluation.bootstrap import bootstrap_difference, bootstrap_mean
from retrieval.evaluation.evaluate import (
    Configuration,
    DuplicateConfiguration,
    EvaluationOptions,
    evaluate,
)
from retrieval.nearest.expansion import Reranking, reranked
from retrieval.whitening.whitening import Whitening
from storage.hdf5.file import read, write
from storage.hdf5.open import open_artifact, validate

VIEWS, CLUSTERS, SINGLETONS = 4, 6, 5


def training_set(split=2):
    """All of one split: 6 clusters of 4 (first view a query, second easy, others hard) and 5 singletons."""
    num_images = VIEWS * CLUSTERS + SINGLETONS
    cluster = np.r_[np.repeat(np.arange(CLUSTERS), VIEWS), CLUSTERS + np.arange(SINGLETONS)]
    queries = np.arange(CLUSTERS) * VIEWS
    name, other = ("test", "val") if split == 2 else ("val", "test")
    empty = np.empty(0, dtype=np.int64)
    arrays = {
        "images/name": [f"site/{i:03}.jpg" for i in range(num_images)],
        "images/sha256": np.array([f"{i:064x}" for i in range(num_images)], dtype="S64"),
        "images/cluster": cluster,
        "images/model": np.where(cluster < CLUSTERS, cluster, -1),
        "images/split": np.full(num_images, split, dtype=np.int8),
        "images/registered": cluster < CLUSTERS,
        "queries/image": empty,
        "queries/split": np.empty(0, dtype=np.int8),
        "positives/m2": empty,
        "candidates/overlap": np.empty(0, dtype=np.float32),
        "candidates/scale_change": np.empty(0, dtype=np.float32),
        "negatives/allowed": np.empty(0, dtype=bool),
        f"benchmark/{name}/queries": queries,
        f"benchmark/{name}/database": np.arange(num_images),
        f"benchmark/{other}/queries": empty,
        f"benchmark/{other}/database": empty,
    }
    for path in ("candidates/image", "candidates/shared_points", "candidates/center_distance_rank"):
        arrays[path] = empty
    for path in ("positives/m1_pool/image", "positives/m3/image"):
        arrays[path] = empty
    for path in ("negatives/image", "negatives/cluster", "negatives/max_inliers"):
        arrays[path] = empty
    for path in ("candidates", "positives/m1_pool", "positives/m3"):
        arrays[f"{path}/indptr"] = np.zeros(1, dtype=np.int64)
    labels = {"easy": queries[:, None] + [1], "hard": queries[:, None] + [2, 3], "junk": queries[:, None]}
    labels["hard"] = [row if q else [] for q, row in enumerate(labels["hard"])]  # cluster 0 has no hard one
    for label, rows in labels.items():
        arrays[f"benchmark/{name}/{label}/image"] = np.array([i for row in rows for i in row], dtype=np.int64)
        arrays[f"benchmark/{name}/{label}/indptr"] = np.cumsum([0, *map(len, rows)])
        arrays[f"benchmark/{other}/{label}/image"] = empty
        arrays[f"benchmark/{other}/{label}/indptr"] = np.zeros(1, dtype=np.int64)
    return arrays


def descriptors_of(arrays, noise, seed=0):
    generator = np.random.default_rng(seed)
    cluster = np.asarray(arrays["images/cluster"])
    vectors = generator.normal(size=(cluster.max() + 1, 8))[cluster]
    vectors = vectors + noise * generator.normal(size=vectors.shape)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def case(tmp_path):
    arrays = training_set()
    path = tmp_path / "training_set.h5"
    write(path, "training_set", arrays, stage="select", options={}, inputs=())
    coarse, fine = descriptors_of(arrays, 1.5), descriptors_of(arrays, 0.5)
    stretch = Whitening(np.zeros(8), np.diag(np.linspace(2, 1, 8)))
    configurations = [
        Configuration("off-the-shelf", "raw", "1", coarse),
        Configuration("off-the-shelf", "lw", "1", coarse, stretch),
        Configuration("fine-tuned", "raw", "1", fine),
        Configuration("fine-tuned", "lw", "1", fine, stretch),
        Configuration("fine-tuned", "raw", "1+1/2", fine),
    ]
    return path, arrays, configurations, tmp_path / "evaluation.h5"


def test_file_holds_what_the_benchmark_says(case):
    path, arrays, configurations, out = case
    rows = evaluate(path, configurations, EvaluationOptions(depth=7), out=out)
    assert len(rows) == 15 and [row.protocol for row in rows[:3]] == ["easy", "medium", "hard"]
    stored = read(out, "evaluation")
    lw = configurations[1].transform.apply(configurations[1].descriptors)
    direct = geometry_map(lw, arrays, "test")
    for index, protocol in enumerate(("easy", "medium", "hard"), 3):
        assert stored["configurations/protocol"][index] == protocol
        assert stored["configurations/whitening"][index] == "lw"
        wanted = direct.protocol(protocol)
        name = stored["configurations/name"][index]
        np.testing.assert_allclose(
            stored[f"average_precisions/{name}"], wanted.average_precisions, atol=1e-12
        )
        assert stored["configurations/map"][index] == pytest.approx(wanted.mean_average_precision)
        assert stored["configurations/map_clusters"][index] == pytest.approx(
            direct.mean_over_clusters(protocol)
        )
        assert stored["precision_at/value"][index][1] == pytest.approx(wanted.mean_precision_at[5])
    low, high = stored["configurations/map_low"], stored["configurations/map_high"]
    assert (low <= stored["configurations/map"]).all() and (stored["configurations/map"] <= high).all()
    ranks = stored[f"ranks/{stored['configurations/ranking'][0]}"]
    scores = configurations[0].descriptors[::VIEWS][:CLUSTERS] @ configurations[0].descriptors.T
    np.testing.assert_array_equal(ranks, np.argsort(-scores, axis=1, kind="stable")[:, :7])
    np.testing.assert_array_equal(stored["queries/cluster"], np.arange(CLUSTERS))


def test_same_input_same_content(case, tmp_path):
    from storage.hdf5.digests import content_sha256

    path, _, configurations, out = case
    evaluate(path, configurations, EvaluationOptions(), out=out, attributes={"seconds": 3.0})
    evaluate(
        path, configurations, EvaluationOptions(), out=tmp_path / "again.h5", attributes={"seconds": 4.0}
    )
    assert content_sha256(out) == content_sha256(tmp_path / "again.h5")
    with open_artifact(out) as artifact:
        assert artifact.attributes["benchmark"] == "geometry test" and artifact.stage == "evaluate"


def test_table_counts_queries_that_are_left_out(case):
    path, _, configurations, out = case
    rows = evaluate(path, configurations, EvaluationOptions(), out=out)
    table = read_table(out)
    assert [row.num_left_out for row in table.rows[:3]] == [0, 0, 1]
    assert [row.mean_average_precision for row in table.rows] == [row.mean_average_precision for row in rows]
    assert table.rows[2].mean_average_precision.num_queries == CLUSTERS - 1
    assert set(table.rows[0].mean_precision_at) == {1, 5, 10}


def test_differences_are_paired_at_equal_whitening(case):
    path, arrays, configurations, out = case
    options = EvaluationOptions(resamples=500, seed=4)
    evaluate(path, configurations, options, out=out)
    table = read_table(out)
    assert [(row.whitening, row.scales) for row in table.differences[::3]] == [("raw", "1"), ("lw", "1")]
    fine, coarse = (
        geometry_map(each.descriptors, arrays, "test").medium.average_precisions
        for each in (configurations[2], configurations[0])
    )
    generator = np.random.default_rng(4)
    wanted = bootstrap_difference(fine, coarse, np.arange(CLUSTERS), generator, resamples=500)
    assert table.differences[1].protocol == "medium"
    assert table.differences[1].difference == wanted and wanted.value > 0
    alone = bootstrap_mean(fine, np.arange(CLUSTERS), np.random.default_rng(4), resamples=500)
    assert alone in [row.mean_average_precision for row in table.rows]


def with_altered(configurations):
    """The configurations, at the single scale with queries that are altered at random."""
    generator = np.random.default_rng(5)
    noise = {("test", change): generator.normal(size=(CLUSTERS, 8)) for change in CHANGES}

    def altered(each):
        queries = each.descriptors[: CLUSTERS * VIEWS : VIEWS]
        return {key: (queries + rows).astype(np.float32) for key, rows in noise.items()}

    return [replace(each, altered=altered(each)) if each.scales == "1" else each for each in configurations]


def test_harder_rows_are_of_altered_queries_among_all_photographs(case):
    path, arrays, configurations, out = case
    configurations = with_altered(configurations)
    evaluate(path, configurations, EvaluationOptions(), out=out)
    stored, table = read(out, "evaluation"), read_table(out)
    assert stored["harder/change"].tolist() == list(CHANGES) * 4
    assert stored["harder/val/average_precision"].shape == (16, 0)
    lw = configurations[1]
    among = AmongAll.of(arrays, GeometryBenchmark.from_arrays(arrays, "test"))
    database = lw.transform.apply(lw.descriptors)
    wanted = {
        change: among.precisions(lw.transform.apply(lw.altered["test", change]), database)
        for change in CHANGES
    }
    for row, change in enumerate(CHANGES, 4):
        assert stored["harder/whitening"][row] == "lw"
        np.testing.assert_allclose(stored["harder/test/average_precision"][row], wanted[change], atol=1e-9)
    assert wanted["dark"].min() > 0 and wanted["dark"].mean() < 1
    rows = {(row.split, row.network, row.whitening, row.change): row for row in table.harder}
    shown_row = rows["test", "off-the-shelf", "lw", "dark"]
    assert shown_row.mean_average_precision.value == pytest.approx(wanted["dark"].mean())
    assert shown_row.mean_average_precision.num_clusters == CLUSTERS
    lines = shown(table, 80)
    assert max(map(len, lines)) <= 80 and "quarter" in " ".join(lines)
    (line,) = [each for each in lines if each.startswith("off-the-shelf  Lw")][1:]
    assert f"{100 * wanted['dark'].mean():.1f}" in line


def test_harder_rows_can_be_left_out(case):
    path, _, configurations, out = case
    evaluate(path, with_altered(configurations), EvaluationOptions(harder=False), out=out)
    assert not any(name.startswith("harder") for name in read(out)) and read_table(out).harder == ()


def test_query_expansion_adds_rows_and_never_uses_the_query_itself(case):
    path, _, configurations, out = case
    options = EvaluationOptions(query_expansion=True, expansion_neighbours=2, expansion_alpha=1.0)
    rows = evaluate(path, configurations[:1], options, out=out)
    assert [row.expansion for row in rows] == [""] * 3 + ["alpha=1, k=2"] * 3
    vectors = configurations[0].descriptors
    query, scores = vectors[VIEWS], vectors @ vectors[VIEWS]
    scores[VIEWS] = -np.inf
    nearest = np.argsort(-scores)[:2]
    expanded = query + scores[nearest] @ vectors[nearest]
    wanted = np.argsort(-(vectors @ expanded), kind="stable")
    stored = read(out)
    np.testing.assert_array_equal(stored[f"ranks/{stored['configurations/ranking'][3]}"][1], wanted)
    assert [row.expansion for row in read_table(out).rows] == [row.expansion for row in rows]


def test_reranking_adds_rows_and_leaves_the_query_itself_out(case):
    path, arrays, configurations, out = case
    how = Reranking(top=9, neighbours=2, beta=0.8)
    options = EvaluationOptions(query_expansion=True, rerank=True, reranking=how)
    rows = evaluate(path, [configurations[0], configurations[2]], options, out=out)
    assert [row.expansion for row in rows[::3]] == ["", "alpha=3, k=28", "neighbours"] * 2
    assert validate(out) == []
    vectors = configurations[0].descriptors
    queries = np.arange(CLUSTERS) * VIEWS
    scores = vectors[queries] @ vectors.T
    ranks = np.argsort(-scores, axis=1, kind="stable")
    lists = vectors[queries], vectors, ranks, np.take_along_axis(scores, ranks, axis=1)
    wanted_scores, wanted = reranked(*lists, leave_out=queries, **dict(how))
    assert (wanted != ranks).any() and (wanted[:, 0] == queries).all()
    stored = read(out)
    name = stored["configurations/ranking"][6]
    assert name == "off-the-shelf|raw|1|neighbours"
    np.testing.assert_array_equal(stored[f"ranks/{name}"], wanted)
    np.testing.assert_allclose(stored[f"scores/{name}"], wanted_scores, rtol=1e-5)
    easy = arrays["benchmark/test/easy/image"]
    others = wanted[:, 1:]  # the query itself is junk, so are hard ones, and one is easy
    hard = [set(queries[q] + np.array([2, 3])) if q else set() for q in range(CLUSTERS)]
    places = [[image for image in row if image not in hard[q]].index(easy[q]) for q, row in enumerate(others)]
    precisions = [1.0 if not place else 1 / (place + 1) / 2 for place in places]
    np.testing.assert_allclose(stored[f"average_precisions/{name}|easy"], precisions)
    table = read_table(out)
    assert [row.expansion for row in table.rows] == [row.expansion for row in rows]
    assert {row.expansion for row in table.differences} == {"", "alpha=3, k=28", "neighbours"}
    lines = shown(table, 80)
    assert max(map(len, lines)) <= 80 and sum(" neighbours " in line for line in lines) == 3
    page = str(evaluation_section(SimpleNamespace(path=lambda _: out, training_set={})))
    # rows of both networks, and what one gains on the other under the three protocols
    assert ">expansion<" in page and page.count(">neighbours<") == 2 and page.count("raw, neighbours<") == 3


def test_val_can_be_measured_and_a_split_without_queries_is_all_nan(tmp_path):
    arrays = training_set(split=1)
    write(tmp_path / "t.h5", "training_set", arrays, stage="select", options={}, inputs=())
    configuration = Configuration("off-the-shelf", "raw", "1", descriptors_of(arrays, 0.1))
    val = evaluate(tmp_path / "t.h5", [configuration], EvaluationOptions(split="val"), out=tmp_path / "v.h5")
    assert val[1].mean_average_precision.value > 0.5
    test = evaluate(
        tmp_path / "t.h5",
        [configuration],
        EvaluationOptions(query_expansion=True, rerank=True),
        out=tmp_path / "e.h5",
    )
    assert np.isnan(test[1].mean_average_precision.value)
    assert np.isnan(read(tmp_path / "e.h5")["configurations/map"]).all()


def shown(table, width):
    """The two tables as lines of a terminal of this width."""
    console = Console(width=width, record=True, file=io.StringIO())
    for part in render(table, width):
        console.print(part)
    return console.export_text().splitlines()


@pytest.mark.parametrize(("width", "form", "end"), [(80, ".0f", ""), (140, ".1f", " c ")])
def test_terminal_shows_every_row_and_cuts_nothing(case, width, form, end):
    path, _, configurations, out = case
    evaluate(path, configurations, EvaluationOptions(), out=out)
    table = read_table(out)
    lines = shown(table, width)
    assert max(map(len, lines)) <= width and "…" not in "".join(lines)
    estimate = table.rows[4].mean_average_precision
    low, high = (format(100 * each, form) for each in (estimate.low, estimate.high))
    (line,) = [each for each in lines if each.startswith("off-the-shelf  Lw ")]
    assert f"{100 * estimate.value:.1f} ({low}–{high}){end}" in line
    assert sum(each.startswith(("off-the-shelf ", "fine-tuned ")) for each in lines) == len(configurations)
    assert f"geometry test: {CLUSTERS} clusters, {VIEWS * CLUSTERS + SINGLETONS} photographs" in lines[0]
    assert [int(n) for n in re.findall(r"(\d+) quer", " ".join(lines))] == [6, 6, 5]
    assert "95 % interval over clusters" in " ".join(lines)


def test_terminal_shows_differences_and_the_whole_gain(case):
    path, _, configurations, out = case
    evaluate(path, configurations, EvaluationOptions(), out=out)
    table = read_table(out)
    lines = shown(table, 80)
    below = lines[next(i for i, line in enumerate(lines) if "fine-tuned minus off-the-shelf" in line) :]
    for rows, label in ((table.differences[:3], "raw "), (table.gains, "Lw vs raw ")):
        (line,) = [each for each in below if each.startswith(label)]
        assert [f"{100 * row.difference.value:+.1f}" in line for row in rows] == [True] * 3
    values = {(row.network, row.whitening, row.protocol): row.mean_average_precision for row in table.rows}
    gain = values["fine-tuned", "lw", "medium"].value - values["off-the-shelf", "raw", "medium"].value
    assert table.gains[1].protocol == "medium" and table.gains[1].difference.value == pytest.approx(gain)


def test_an_expansion_has_a_column_only_where_there_is_one(case):
    path, _, configurations, out = case
    evaluate(path, configurations[:1], EvaluationOptions(), out=out)
    assert "expansion" not in "".join(shown(read_table(out), 100))
    out.unlink()
    evaluate(path, configurations[:1], EvaluationOptions(query_expansion=True), out=out)
    lines = shown(read_table(out), 120)
    assert "expansion" in lines[2] and [line.split()[3] for line in lines[4:6]] == ["none", "alpha=3,"]


def test_scales_have_short_names():
    assert scale_names(["1", "1+0.7071", "1"]) == {"1": "single", "1+0.7071": "multi"}
    assert scale_names(["1", "a", "b"]) == {"1": "single", "a": "a", "b": "b"}


def test_bad_input_is_named(case):
    path, _, configurations, out = case
    with pytest.raises(DuplicateConfiguration, match="given twice"):
        evaluate(path, configurations[:1] * 2, EvaluationOptions(), out=out)
    short = Configuration("a", "raw", "1", configurations[0].descriptors[:3])
    with pytest.raises(ValueError, match="a, raw, 1: 3 descriptors for 29 images"):
        evaluate(path, [short], EvaluationOptions(), out=out)
    with pytest.raises(ValueError, match=r"M \(top\) 4, K \(neighbours\) 9"):
        EvaluationOptions(reranking={"top": 4})
    assert not out.exists()
