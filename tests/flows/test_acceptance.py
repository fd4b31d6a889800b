"""The tools of the acceptance runs: damage is damage, an edited comment is none, the figures are right."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.acceptance_cache import RESOURCES, edit_comments, files_that_name, flip
from benchmarks.acceptance_runs import Checks, copy_code, differing, made_since, sidecars, text_of
from benchmarks.cells import without_folders
from benchmarks.claims import over_sites, says
from benchmarks.folds import folds
from benchmarks.subsets import subset
from benchmarks.three_seeds import (
    SeedQueries,
    SeedResult,
    Training,
    equal_whitening,
    interval,
    markdown,
    mean_gain,
    pooled,
    spread,
)
from flows.options.pipeline import PipelineResources
from report.tables.evaluation import EvaluationTable, TableRow
from retrieval.evaluation.bootstrap import Estimate
from storage.keys.code import source_digest
from storage.keys.options import Options
from storage.keys.stages import Stage
from storage.store.store import Store

NUMBER = Stage(name="number", suffix=".txt")


class Width(Options):
    value: int = 1


def test_flip_changes_one_byte_of_a_read_only_file_too(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(9)))
    path.chmod(0o400)
    flip(path)
    assert path.read_bytes() == bytes([0, 1, 2, 3, 251, 5, 6, 7, 8])
    assert path.stat().st_mode & 0o777 == 0o400


@pytest.mark.parametrize(
    "text", ['"""What."""\n\nA = 1\n', "A = 1\n", '"""Two\nlines."""\nA = "# no comment"\n']
)
def test_edited_comments_change_the_text_and_not_the_code(tmp_path: Path, text: str) -> None:
    path = tmp_path / "module.py"
    path.write_text(text)
    assert edit_comments(path) is text.startswith('"""')
    assert path.read_text() != text and source_digest(path.read_text()) == source_digest(text)


def test_a_copy_of_the_code_is_importable_and_complete(tmp_path: Path) -> None:
    copy = copy_code(tmp_path / "code")
    assert (copy / "flows" / "cli" / "main.py").exists() and (copy / "configs" / "default.yaml").exists()
    assert not list(copy.rglob("*.pyc"))


def test_every_resource_is_tried() -> None:
    tried = {text.split("=")[0] for text in RESOURCES}
    assert tried == set(PipelineResources.model_fields) - {
        "photos",
        "runner",
    }  # tests/tasks/engine/test_runners.py


def test_what_a_run_made_is_what_is_newer(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "store", min_free_bytes=0)

    def produce(value: int, *, force: bool = False) -> None:
        store.produce(
            NUMBER, Width(value=value), [], lambda out: out.write_text(str(value)) and None, force=force
        )

    produce(1)
    before = sidecars(store.root)
    produce(1)
    assert list(made_since(store.root, before)) == []
    produce(2)
    assert [made.ref.stage for made in made_since(store.root, before)] == ["number"]
    assert len(before) == 1 and len(sidecars(store.root)) == 2


def test_a_path_in_a_record_is_found(tmp_path: Path) -> None:
    (tmp_path / "prefect" / "results").mkdir(parents=True)
    (tmp_path / "prefect" / "results" / "one").write_text('{"store": "/a/b"}')
    assert len(files_that_name(tmp_path, "/a/b")) == 1
    assert files_that_name(tmp_path, "/c") == []


def test_one_line_that_did_not_hold_fails_the_whole() -> None:
    checks = Checks()
    assert checks.add("first", True, "1 [of] 1") and checks.finish("title") == 0
    assert not checks.add("second", False, "0 of 1") and checks.finish("title") == 1


def test_differences_and_counts_in_words() -> None:
    assert differing({"a": 1, "b": 2}, {"b": 3, "c": 4}) == ["a", "b", "c"]
    assert differing({"a": [1]}, {"a": [1]}) == []
    assert text_of({"scene": 1, "mapping": 12}) == "mapping 12, scene 1" and text_of({}) == "nothing"


SPREAD = np.array([-0.1, np.nan, 0.1])  # queries of a cluster of the seed's own (one left out), of cluster 9


def result(seed: int, raw: float, tuned: float) -> SeedResult:
    def row(network: str, whitening: str, value: float) -> TableRow:
        estimate = Estimate(value, value - 0.1, value + 0.1, value, 10, 3)
        return TableRow(network, whitening, "1", "", "medium", estimate, {}, 0)

    rows = (
        row("off-the-shelf", "raw", raw),
        row("off-the-shelf", "lw", raw + 0.1),
        row("fine-tuned", "lw", tuned),
    )
    names = ("epoch", "loss_train", "loss_val", "map_val", "gem_p", "mean_negative_distance")
    epochs = {name: np.array([0.0, 1.0]) for name in names} | {"epoch": np.array([0, 1])}
    training = Training(epochs, 1, np.array([0.1, 0.2, 0.9], np.float32), ("few clusters",))
    split = dict.fromkeys(("train", "val", "test"), "3 photographs")
    table = EvaluationTable("geometry test", rows, ())
    tested = SeedQueries(
        np.array([seed, seed, 9]),
        {
            (row.network, row.whitening, "1", "", "medium"): row.mean_average_precision.value + SPREAD
            for row in rows
        },
    )
    return SeedResult(seed, 60.0, {"scene": 1}, table, tested, training, split)


def test_mean_and_spread_over_seeds_by_hand() -> None:
    results = [result(0, 0.5, 0.7), result(1, 0.6, 0.7), result(2, 0.7, 0.7)]
    assert mean_gain(results) == pytest.approx((10.0, 70.0, 60.0))
    assert spread(np.array([1.0, 2.0, 6.0])) == "3.0 (1.0..6.0, sd 2.6)"
    assert spread(np.array([1.0]), "+.1f") == "+1.0 (+1.0..+1.0, sd nan)"
    (*names, change), *more = equal_whitening(results)[1:]
    assert (names, more) == (["lw", "1", ""], []) and change.startswith("+0.0 (-10.0..+10.0, sd 10.0) [-")


def test_the_interval_counts_a_cluster_of_two_seeds_once() -> None:
    tuned, raw = ("fine-tuned", "lw", "1", ""), ("off-the-shelf", "raw", "1", "")
    found = pooled([result(0, 0.5, 0.7), result(1, 0.6, 0.7)], tuned, "medium")
    assert (found.num_queries, found.num_clusters) == (4, 3)  # 0, 1 and 9
    assert found.value == pytest.approx(0.7) and 0.6 <= found.low < found.high <= 0.8
    gain = pooled([result(0, 0.5, 0.7)], tuned, "medium", raw)
    assert gain.value == pytest.approx(0.2) and interval(gain, "+.1f") == "[+20.0..+20.0]"
    assert interval(Estimate(0.5, np.nan, np.nan, 0.5, 3, 1)) == "[one cluster]"


def test_the_report_has_every_part() -> None:
    text = markdown([result(0, 0.5, 0.7), result(1, 0.6, 0.4)])
    assert "fine-tuned + lw 55.00 is NOT above off-the-shelf raw 55.00 (+0.00 points" in text
    assert "| 1 | medium | 70.0 - 50.0 | 40.0 - 60.0 | +0.0 (-20.0..+20.0, sd 28.3) [-20.0..+20.0] |" in text
    assert "expansion" not in text
    assert "| 0 | 0.2 | 3 photographs" in text and "1 (kept)" in text and "warning: few clusters" in text


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("error: /home/a/b.log | left: c/d.h5", "error: b.log | left: c/d.h5"),
        ("http://127.0.0.1:4200/x/y, '/tmp/x-1/y.jpg': no", "http://127.0.0.1:4200/x/y, 'y.jpg': no"),
        ({"wrong": ["/a/b: torn", 3.5, None]}, {"wrong": ["b: torn", 3.5, None]}),
    ],
)
def test_kept_results_name_no_folder_of_the_machine(told: object, kept: object) -> None:
    assert without_folders(told) == kept


def test_folds_keep_sites_that_show_each_other_together() -> None:
    sites = ["qutub_minar"] * 5 + ["iron_pillar"] * 3 + ["fort"] * 4 + ["gate"] * 4 + [""] * 6
    files = [f"{number}.jpg" for number in range(len(sites))]
    labelled = pd.DataFrame({"collection": "landmarks", "file": files, "site": sites})
    table = folds(labelled, 3)
    by_site = table[table["site"] != ""].groupby("site")["fold"].unique().map(list)
    assert by_site["qutub_minar"] == by_site["iron_pillar"] and all(len(each) == 1 for each in by_site)
    assert sorted(table[table["site"] != ""].groupby("fold").size()) == [4, 4, 8]
    more = pd.concat([labelled, pd.DataFrame([{"collection": "landmarks", "file": "x.jpg", "site": ""}])])
    again = folds(more, 3)
    assert again["fold"].tolist()[: len(table)] == table["fold"].tolist()


def test_a_difference_over_sites_weighs_sites_alike() -> None:
    values = np.array([0.1, 0.1, 0.1, 0.5])
    found = over_sites(values, np.array(["a", "a", "a", "b"]))
    assert found.value == pytest.approx(0.3) and found.num_clusters == 2
    assert [says(over_sites(np.full(4, sign), np.array(list("abcd")))) for sign in (1.0, -1.0)] == [
        "holds",
        "does not hold",
    ]


@pytest.mark.parametrize("number", range(4))
def test_a_subset_is_judged_by_places_that_it_lacks(number: int) -> None:
    sites = ["colosseum_inside", "colosseum_outside", *(f"site{n}" for n in range(12)), ""]
    rows = [(name, f"{name}-{site}-{k}.jpg", site) for name in ("collection", "landmarks")
            for site in sites for k in range(9)]  # fmt: skip
    table = pd.DataFrame(rows, columns=["collection", "file", "site"])
    found = subset(table, number)
    places = found.chosen["site"].replace("colosseum_outside", "colosseum_inside")
    assert places[places != ""].nunique() == found.places
    assert set(found.chosen.loc[found.chosen["site"] != "", "collection"]) == {found.collection}
    assert not set(found.judging["file"]) & set(found.chosen["file"])
    judging = found.judging["site"].replace("colosseum_outside", "colosseum_inside")
    assert not set(judging[judging != ""]) & set(places)
