"""A run in the ledger while it is made, and one stage alone; stand-ins of the steps make a text file each."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.options.pipeline import PipelineOptions, PipelineResources
from flows.options.stages import STAGES
from flows.run import alone as alone_module
from flows.run.alone import missing_upstream, run_stage
from flows.run.record import begin, part_of, recorded
from flows.steps.table import STEPS
from flows.steps.work import MissingUpstream, NoPhotographs, Work
from storage.keys.options import Options
from storage.keys.stages import Stage
from storage.store import ledger
from storage.store.ledger import RunRecord, UnknownRun
from storage.store.store import Store

MAKES = {
    "reconstruct": "scene",
    "select": "training_set",
    "finetune": "finetune",
    "whiten": "whiten",
    "evaluate": "evaluation",
}
Done = list[tuple[str, bool]]


class Text(Options):
    text: str


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "store", min_free_bytes=0)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    return tmp_path / "photos"


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> Done:
    """(stage, forced) of every stage whose steps ran; a pool_k of 13 fails."""
    calls: Done = []

    def steps_of(stage: str) -> Callable[[Work], None]:
        def steps(work: Work) -> None:
            calls.append((stage, work.force))
            if stage == "select" and work.options.selection.pool_k == 13:
                raise RuntimeError("no luck")
            sections = {"select": work.options.selection.pool_k, "finetune": work.options.training.epochs}
            options = Text(text=str(sections.get(stage, "")))
            made = Stage(name=MAKES[stage], suffix=".txt")
            upstream = [work.one(MAKES[name]) for name in STAGES[: STAGES.index(stage)]]
            before = [ref.content_sha256 for ref in upstream]

            def build(out: Path) -> None:
                out.write_text(f"{stage} {options.text}")

            work.keep(**{MAKES[stage]: work.store.produce(made, options, before, build, upstream=upstream)})

        return steps

    for stage in STAGES:
        monkeypatch.setitem(STEPS, stage, steps_of(stage))
    for name in ("show_stage", "show_stale", "show_report"):
        monkeypatch.setattr(alone_module, name, lambda *arguments: None)
    return calls


@pytest.fixture
def whole(store: Store, photos: Path, done: Done) -> RunRecord:
    """A finished run of all stages."""
    record = begin(store, PipelineOptions(), PipelineResources(photos=str(photos)))
    with recorded(store, record.id):
        for stage in STAGES:
            part_of(stage)(str(store.root), record.id)
    done.clear()
    return ledger.load(store, record.id)


def alone(stage: str, store: Store, **changes: Any) -> RunRecord:
    settings: dict[str, Any] = {"from_run": "latest", "options": None, "resources": None, "force": False}
    return run_stage(stage, str(store.root), **{**settings, "build_upstream": False, **changes})


def test_a_stage_alone_shares_what_was_before_it_and_drops_what_came_after(
    store: Store, whole: RunRecord, done: Done
) -> None:
    options = PipelineOptions(selection={"pool_k": 5}, training={"epochs": 99})
    record = alone("select", store, options=options)
    assert done == [("select", False)]
    assert record.refs_of("scene") == whole.refs_of("scene")
    assert store.path(record.refs_of("training_set")[0]).read_text() == "select 5"
    assert set(record.refs) == {"scene", "training_set"}
    assert (record.from_run, record.collection, record.status) == (whole.id, "photos", "completed")
    assert record.options["selection"]["pool_k"] == 5
    assert record.options["training"] == whole.options["training"]  # not its own section


def test_without_options_everything_is_the_earlier_runs(store: Store, whole: RunRecord, done: Done) -> None:
    record = alone("whiten", store, from_run=whole.id)
    assert record.options == whole.options and record.resources == whole.resources
    assert record.refs_of("whiten") == whole.refs_of("whiten")


def test_a_run_from_a_list_needs_the_scan_and_no_scene(store: Store, whole: RunRecord, done: Done) -> None:
    listed = PipelineOptions(selection={"list": "somebody's.csv"})
    with pytest.raises(MissingUpstream, match="select needs scan of run"):
        alone("select", store, options=listed)
    scan = store.produce(Stage(name="scan", suffix=".txt"), Text(text=""), [], lambda out: out.touch())
    (scene,) = whole.refs_of("scene")
    ledger.save(store, whole.with_refs({"scan": scan}))
    assert "scan" in alone("select", store, from_run=whole.id, options=listed).refs
    store.path(scene).unlink()
    assert missing_upstream(store, ledger.load(store, whole.id), ["reconstruct"]) == [scene.path]
    assert missing_upstream(store, ledger.load(store, whole.id), ["reconstruct"], from_list=True) == []
    store.path(scan).unlink()
    with pytest.raises(MissingUpstream, match="select needs scan/"):
        alone("select", store, from_run=whole.id, options=listed)


def test_force_is_for_the_stage_alone(store: Store, whole: RunRecord, done: Done) -> None:
    (store.path(whole.refs_of("scene")[0])).unlink()
    alone("select", store, force=True, build_upstream=True)
    assert done == [("reconstruct", False), ("select", True)]


@pytest.mark.parametrize("damage", ["deleted", "changed"])
def test_a_missing_upstream_is_refused_or_built(
    store: Store, whole: RunRecord, done: Done, damage: str
) -> None:
    ref = whole.refs_of("training_set")[0]
    store.path(ref).unlink()
    if damage == "changed":
        store.path(ref).write_text("something else")
    before = [record.id for record in ledger.records(store)]
    with pytest.raises(
        MissingUpstream, match=rf"finetune needs {ref.path} of run {whole.id}.*--build-upstream"
    ):
        alone("finetune", store)
    assert done == [] and [record.id for record in ledger.records(store)] == before
    record = alone("finetune", store, build_upstream=True)
    assert [stage for stage, _ in done] == ["reconstruct", "select", "finetune"]
    assert record.refs_of("finetune") == whole.refs_of("finetune")


def test_an_upstream_that_was_never_made_is_refused(store: Store, whole: RunRecord, done: Done) -> None:
    latest = alone("select", store)
    with pytest.raises(MissingUpstream, match=f"whiten needs finetune of run {latest.id}"):
        alone("whiten", store)
    assert alone("whiten", store, from_run=whole.id).refs_of("whiten") == whole.refs_of("whiten")


def test_unknown_runs_are_refused(store: Store, done: Done) -> None:
    with pytest.raises(UnknownRun, match="no completed run"):
        alone("select", store)
    with pytest.raises(UnknownRun, match="'x'"):
        alone("select", store, from_run="x")


def test_a_failed_stage_is_in_the_ledger_as_failed(store: Store, whole: RunRecord, done: Done) -> None:
    with pytest.raises(RuntimeError, match="no luck"):
        alone("select", store, options=PipelineOptions(selection={"pool_k": 13}))
    failed = next(ledger.records(store))
    assert failed.status == "failed" and failed.ended is not None
    assert ledger.load(store, "latest").id == whole.id


def test_an_interrupted_run_is_cancelled(store: Store, photos: Path) -> None:
    record = begin(store, PipelineOptions(), PipelineResources(photos=str(photos)))
    with pytest.raises(KeyboardInterrupt), recorded(store, record.id):
        raise KeyboardInterrupt
    assert ledger.load(store, record.id).status == "cancelled"


def test_notes_are_in_the_ledger_at_once(store: Store, whole: RunRecord) -> None:
    work = Work.load(str(store.root), whole.id, "select", ["select"])
    assert work.force and not Work.load(str(store.root), whole.id, "select", ["whiten"]).force
    work.note(places=3)
    work.note(sites=4)
    assert ledger.load(store, whole.id).facts == {"places": 3, "sites": 4}
    assert work.one("scene") == whole.refs_of("scene")[0] and work.many("nothing") == []
    with pytest.raises(MissingUpstream, match="0 artifacts 'nothing'"):
        work.one("nothing")


def test_photographs_must_be_where_the_run_says(store: Store, whole: RunRecord, tmp_path: Path) -> None:
    def photos_of(folder: str | None) -> str:
        work = Work.load(str(store.root), whole.id, "select")
        work.resources = work.resources.model_copy(update={"photos": folder})
        return work.photos

    assert photos_of(str(tmp_path)) == str(tmp_path)
    with pytest.raises(NoPhotographs, match=r"--set resources\.photos=DIR"):
        photos_of(None)
    with pytest.raises(NoPhotographs, match=r"nowhere.*is not there"):
        photos_of(str(tmp_path / "nowhere"))


def test_older_results_are_accepted_for_a_flow_or_a_stage(store: Store, whole: RunRecord) -> None:
    def accepts(*names: str) -> bool:
        return Work.load(str(store.root), whole.id, "reconstruct", [], names).accepts("features")

    assert (
        accepts("features") and accepts("reconstruct") and not accepts() and not accepts("select", "matches")
    )


def test_what_a_rerun_leaves_behind_is_stale_on_its_page(
    store: Store, whole: RunRecord, done: Done, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.run import pages

    tables: list[dict[str, Any]] = []
    monkeypatch.setattr(pages, "create_table_artifact", lambda **given: tables.append(given))
    same = alone("select", store)
    assert pages.stale_rows(store, same) == []
    pages.show_stale(store, same)
    assert tables == []
    record = alone("select", store, options=PipelineOptions(selection={"pool_k": 5}))
    pages.show_stale(store, record)
    (table,) = tables
    old, new = whole.refs_of("training_set")[0], record.refs_of("training_set")[0]
    assert sorted(row["stage"] for row in table["table"]) == ["evaluation", "finetune", "whiten"]
    (finetune,) = (row for row in table["table"] if row["stage"] == "finetune")
    assert finetune == {
        "stage": "finetune",
        "path": whole.refs_of("finetune")[0].path,
        "run": whole.id,
        "built from": f"training_set {old.content_sha256[:16]}",
        "current": new.content_sha256[:16],
    }
    assert table["key"] == "stale" and "rerun" in table["description"]
