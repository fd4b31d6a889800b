"""The look ahead: what is cached, missing, or kept from it by edited code alone; and its acceptance."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flows.options.pipeline import PipelineOptions, PipelineResources
from flows.options.stages import STAGES, StageOfRun
from flows.run import look_ahead as look_ahead_module
from flows.run import superseded
from flows.run.look_ahead import LookAhead, look_ahead
from flows.run.superseded import UnknownStage, check_names, code_changed, notices
from flows.steps.reconstruct import read_photographs
from flows.steps.work import Work
from storage.keys import keys
from storage.keys.artifacts import ArtifactRef
from storage.keys.code import source_path
from storage.keys.options import Options
from storage.keys.stages import Stage
from storage.store import ledger
from storage.store.integrity import CLOCK_TICK_NS
from storage.store.store import Store
from tasks.engine.caching import stage_task
from tasks.engine.chunks import Chunk
from tasks.photographs import accepted, scan_photographs

ITEM, SUM = Stage(name="item", suffix=".txt"), Stage(name="sum", suffix=".txt")


class Size(Options):
    size: int = 1


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "store", min_free_bytes=0)


class Toy:
    """Two stages of code that can be edited: chunks of items, and a sum of them."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        package = folder / f"toy_{time.monotonic_ns()}"
        package.mkdir()
        for name in ("__init__", "item", "sum"):
            (package / f"{name}.py").write_text("")
        monkeypatch.syspath_prepend(folder)
        items = ITEM.model_copy(update={"code": f"{package.name}.item"})
        total = SUM.model_copy(update={"code": f"{package.name}.sum"})
        self.items, self.total = items, total

        @stage_task(items)
        def item(out: Path, options: Size, chunk: Chunk) -> dict[str, Any]:
            out.write_text(" ".join(chunk.made_from))
            return chunk.made(dict.fromkeys(chunk.made_from, "0" * 64))

        @stage_task(total)
        def add(out: Path, options: Size, chunks: list[ArtifactRef]) -> None:
            out.write_text("sum")

        self.item, self.add = item, add

    def steps(self, work: Work) -> None:
        made = work.in_chunks(self.item, dict(zip("abc", "abc", strict=True)), workers=1, options=Size())
        total = work.task(self.add)(options=Size(size=work.options.training.epochs), chunks=made)
        work.keep(item=made, sum=total)

    def run(self, store: Store, accept: tuple[str, ...] = ()) -> tuple[Work, list[str]]:
        """Do the steps without Prefect; what had to be computed."""
        computed: list[str] = []
        record = ledger.start(store, "town").with_refs({"scan": stand_in_scan()})
        resources = PipelineResources(photographs_per_task=2)
        work = Direct(store, record, PipelineOptions(), resources, "select", False, frozenset(accept))
        work.computed = computed
        self.steps(work)
        ledger.save(store, work.record.finished("completed"))
        return work, computed

    def edit(self, stage: Stage) -> None:
        source_path(stage.code).write_text(f"x = {time.monotonic_ns()}")

    def look(self, store: Store, **changes: Any) -> dict[str, str]:
        walk = self.walk(store, **changes)
        return {f"{seen.stage.name} {seen.items}": seen.status for seen in walk.seen.values()}

    def walk(
        self, store: Store, epochs: int = PipelineOptions().training.epochs, force: tuple[str, ...] = ()
    ) -> LookAhead:
        options = PipelineOptions(training={"epochs": epochs})
        walk = look_ahead(store, options, PipelineResources(photographs_per_task=2), stand_in_scan())
        walk.walk(["select"], force)
        return walk


class Direct(Work):
    """Work whose tasks run in this process, as Prefect would run them on a miss."""

    computed: list[str]

    def task(self, task: Any) -> Callable[..., Any]:
        return lambda **arguments: self.do(task, arguments)

    def fan_out(self, task: Any, calls: Any, *, workers: int, **common: Any) -> list[ArtifactRef]:
        return [self.do(task, {**common, **call}) for call in calls]

    def do(self, task: Any, arguments: dict[str, Any]) -> ArtifactRef:
        arguments = {"store": self.root, **arguments}
        self._adopt(task, arguments)
        call = task.cache_policy.call(arguments, force=False)
        if self.store.find(call.stage.name, call.key) is None:
            self.computed.append(call.stage.name)
        found: ArtifactRef = task.fn(**arguments)
        return found


def stand_in_scan() -> ArtifactRef:
    return ArtifactRef(
        stage="scan", key="0" * 64, path="scan/x.h5", file_sha256="0", content_sha256="0", bytes=1
    )


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    made = Toy(tmp_path, monkeypatch)
    monkeypatch.setattr(look_ahead_module, "STEPS", dict.fromkeys(STAGES, made.steps))
    known = {stage.name: stage for stage in (made.items, made.total)}
    monkeypatch.setattr(superseded, "stages_by_name", lambda: known)
    monkeypatch.setattr(superseded, "TABLE", (StageOfRun("select", makes=("item", "sum")),))
    return made


def test_nothing_is_there_and_the_look_ends_at_the_first_miss(store: Store, toy: Toy) -> None:
    assert toy.look(store) == {"item 2": "missing", "item 1": "missing"}


def test_all_is_there(store: Store, toy: Toy) -> None:
    assert toy.run(store)[1] == ["item", "item", "sum"]
    assert toy.look(store) == {"item 2": "cached", "item 1": "cached", "sum 1": "cached"}
    assert toy.run(store)[1] == []


def test_another_option_is_a_miss_and_not_older_code(store: Store, toy: Toy) -> None:
    toy.run(store)
    toy.edit(toy.total)
    assert toy.look(store, epochs=77)["sum 1"] == "missing"
    assert toy.look(store)["sum 1"] == "older"


def test_force_makes_everything_a_miss(store: Store, toy: Toy) -> None:
    toy.run(store)
    toy.edit(toy.items)
    assert set(toy.look(store, force=("select",)).values()) == {"missing"}


def test_edited_code_is_seen_through_to_the_end(store: Store, toy: Toy) -> None:
    """The sum of older items is found, for their content is known."""
    toy.run(store)
    toy.edit(toy.items)
    assert toy.look(store) == {"item 2": "older", "item 1": "older", "sum 1": "cached"}


def test_looking_changes_nothing(store: Store, toy: Toy) -> None:
    toy.run(store)
    toy.edit(toy.items)
    time.sleep(2 * CLOCK_TICK_NS / 1e9)  # younger files may change within their mtime and are read each time
    toy.walk(store)  # remembers what it verified

    def tree() -> dict[str, tuple[int, int]]:
        files = (path for path in store.root.rglob("*") if path.is_file())
        return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}

    before = tree()
    toy.walk(store)
    assert tree() == before


def test_a_notice_says_how_many_how_old_and_how_long(store: Store, toy: Toy) -> None:
    toy.run(store)
    settings = (PipelineOptions(), PipelineResources(photographs_per_task=2), ["select"])
    assert notices(store, "town", *settings) == []
    toy.edit(toy.items)
    (line,) = notices(store, "town", *settings)
    assert line.startswith("select: item will be made again only because code changed (")
    assert f"({toy.items.code} changed): 2 files, 0 seconds old, took 0 seconds; " in line
    assert "; --accept-older-code item uses" in line
    assert notices(store, "another town", *settings) == []
    for accepted_name in ("item", "select"):
        assert notices(store, "town", *settings, accept=[accepted_name]) == []
    toy.edit(toy.total)
    assert len(notices(store, "town", *settings)) == 2
    assert len(notices(store, "town", *settings, accept=["sum"])) == 1


@pytest.mark.parametrize("names", [("item",), ("select",)])
def test_accepted_items_are_used_and_that_is_recorded(store: Store, toy: Toy, names: tuple[str, ...]) -> None:
    before, _ = toy.run(store)
    toy.edit(toy.items)
    work, computed = toy.run(store, names)
    assert computed == []
    assert [ref.content_sha256 for ref in work.many("item")] == [
        ref.content_sha256 for ref in before.many("item")
    ]
    assert {ref.key for ref in work.many("item")}.isdisjoint(ref.key for ref in before.many("item"))
    for ref in work.many("item"):
        sidecar = store.sidecar(ref)
        assert sidecar is not None and sidecar.accepted is not None
        assert sidecar.accepted["differences"] == [f"{toy.items.code} changed"]
    assert toy.run(store)[1] == []


def test_an_accepted_single_result(store: Store, toy: Toy, caplog: pytest.LogCaptureFixture) -> None:
    toy.run(store)
    toy.edit(toy.total)
    with caplog.at_level(logging.INFO, "tasks.engine.caching"):
        assert toy.run(store, ("sum",))[1] == []
    assert "accepted sum: made" in caplog.text
    toy.edit(toy.total)
    assert toy.run(store, ("item",))[1] == ["sum"]


def test_what_is_not_accepted_is_made_again(store: Store, toy: Toy) -> None:
    toy.run(store)
    toy.edit(toy.items)
    assert toy.run(store)[1] == ["item", "item"]


def test_names_are_those_of_flows_and_stages() -> None:
    check_names([*STAGES, "features", "matches", "descriptors", "scene", "training_set"])
    with pytest.raises(UnknownStage, match=r"--accept-older-code featurs: .*did you mean 'features'"):
        check_names(["select", "featurs"])
    with pytest.raises(UnknownStage, match="valid: reconstruct, select, finetune"):
        check_names(["qqq"])


def test_real_photographs_after_an_update_of_pillow(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scan, working copies and catalogue as the flow makes them; a new Pillow touches both that decode."""
    photos = tmp_path / "town"
    photos.mkdir()
    for number in range(3):
        blocks = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(blocks).resize((80, 60)).save(photos / f"{number}.png")
    resources = PipelineResources(photos=str(photos), photographs_per_task=2)
    record = ledger.start(store, "town", resources=resources.model_dump(mode="json"))
    work = Direct(store, record, PipelineOptions(), resources, "reconstruct")
    work.computed = []
    direct_scan = scan_photographs.fn(str(store.root), str(photos))
    monkeypatch.setattr(work, "task", scanned(work, direct_scan))
    read_photographs(work)
    ledger.save(store, work.record.finished("completed"))
    assert work.computed == ["working", "working", "catalogue"]
    assert len(accepted(store, work.one("catalogue"))) == 3

    def look() -> list[tuple[str, str]]:
        walk = look_ahead(store, PipelineOptions(), resources, direct_scan)
        assert not walk.walk(["reconstruct"])  # there is no network yet
        return sorted((seen.stage.name, seen.status) for seen in walk.seen.values())

    rest = [("network", "missing"), ("working", "cached"), ("working", "cached")]
    assert look() == [("catalogue", "cached"), *rest]
    assert not code_changed(store, work.record)
    version = keys._package_version
    monkeypatch.setattr(keys, "_package_version", lambda name: "99" if name == "pillow" else version(name))
    assert look() == [("catalogue", "older"), rest[0], ("working", "older"), ("working", "older")]
    assert code_changed(store, work.record)
    lines = notices(store, "town", PipelineOptions(), resources)
    for line, stage in zip(lines, ("working", "catalogue"), strict=True):
        why = f"only because code changed (pillow {version('pillow')} -> 99)"
        assert f"{stage} will be made again {why}" in line
    again = Direct(
        store, record, PipelineOptions(), resources, "reconstruct", False, frozenset({"working", "catalogue"})
    )
    again.computed = []
    monkeypatch.setattr(again, "task", scanned(again, direct_scan))
    read_photographs(again)
    assert again.computed == []


def scanned(work: Direct, scan: ArtifactRef) -> Callable[[Any], Callable[..., Any]]:
    """`work.task`, but the scan has been made."""

    def task(task: Any) -> Callable[..., Any]:
        if task is scan_photographs:
            return lambda **arguments: scan
        return lambda **arguments: work.do(task, arguments)

    return task
