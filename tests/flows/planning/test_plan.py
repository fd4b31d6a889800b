"""`run --plan`: counts from what is there, estimates from there on, and nothing made."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from flows.cli.plans import render
from flows.options.pipeline import PipelineOptions, PipelineResources
from flows.options.stages import STAGES
from flows.planning.costs import DEFAULTS, Cost, cost_of, load, measured
from flows.planning.estimates import Estimates, expected_pairs
from flows.planning.plan import Plan, make_plan
from flows.run.superseded import stages_by_name
from retrieval.describe.options import ExtractionOptions
from retrieval.training.options import TrainingOptions
from sfm.features import sift
from sfm.lists.photographs import UnusablePhotographs
from sfm.matching import match
from sfm.pairing.strategies import PairOptions
from sfm.photographs import working
from storage.keys.artifacts import ArtifactRef, Sidecar, items_digest
from storage.keys.options import canonical_options
from storage.photographs.scanning import NoFolder
from storage.store.store import Store
from tasks.engine.chunks import Chunk
from tasks.photographs import make_working_copies, scan_photographs


def photograph(number: int) -> Image.Image:
    blocks = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(blocks.repeat(10, axis=0).repeat(10, axis=1))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Five files: four different photographs, one of them twice; and a video."""
    folder = tmp_path / "town"
    folder.mkdir()
    for number in range(4):
        photograph(number).save(folder / f"{number}.png")
    (folder / "again.png").write_bytes((folder / "0.png").read_bytes())
    (folder / "film.mp4").write_bytes(b"x")
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "store", min_free_bytes=0)


def planned(photos: Path, store: Store | Path, **changes: Any) -> Plan:
    root = store.root if isinstance(store, Store) else store
    return make_plan(str(photos), str(root), PipelineOptions(), PipelineResources(processes=2), **changes)


def counts(found: Plan, flow: str = "reconstruct") -> dict[str, tuple[int, int]]:
    return {row.stage.name: (row.cached, row.todo) for row in found.rows if row.flow == flow}


def copy_photographs(store: Store, photos: Path) -> None:
    """The first task of a run: working copies of all that is in the folder now."""
    scan_photographs.fn(str(store.root), str(photos))
    wanted = {row.sha256: row.sha256 for row in planned(photos, store).table.entries if row.status == "ok"}
    for chunk in store.plan_items(working.STAGE, PipelineOptions().reconstruction.working, wanted, 64):
        make_working_copies.fn(
            store=str(store.root),
            options=PipelineOptions().reconstruction.working,
            chunk=Chunk(chunk.made_from),
            photos=str(photos),
        )


def test_a_store_that_is_not_there_is_not_made(photos: Path, tmp_path: Path) -> None:
    found = planned(photos, tmp_path / "none")
    assert not (tmp_path / "none").exists()
    assert (found.photographs, found.pairs, found.unread) == (4, 6, 0)
    assert counts(found)["working"] == (0, 4) and counts(found)["matches"] == (0, 6)
    assert {row.cached for row in found.rows} == {0}
    assert list(dict.fromkeys(row.flow for row in found.rows)) == list(STAGES)
    assert not any(row.exact for row in found.rows)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoFolder, match="is not a folder"):
        planned(tmp_path / "nowhere", tmp_path / "none")


def test_a_list_plans_its_own_photographs_and_no_reconstruction(photos: Path, tmp_path: Path) -> None:
    file = tmp_path / "list.csv"
    file.write_text("name,identity\n1.png,a\n2.png,a\n0.png,b\nagain.png,b\n")
    options = PipelineOptions(selection={"list": file})
    found = make_plan(str(photos), str(tmp_path / "none"), options, PipelineResources())
    assert (found.photographs, found.pairs) == (3, 0)
    assert [row.stage.name for row in found.rows][:3] == ["listed_set", "network", "finetune"]
    assert counts(found, "whiten")["descriptors"] in ((0, 6), (0, 12))
    file.write_text("name,identity\n1.png,a\nabsent.png,a\n")
    with pytest.raises(UnusablePhotographs, match=r"1 of 2 .*'absent\.png' .*line 3\): not in the folder"):
        make_plan(str(photos), str(tmp_path / "none"), options, PipelineResources())


def test_until_ends_the_plan(photos: Path, tmp_path: Path) -> None:
    rows = planned(photos, tmp_path / "none", until="select").rows
    assert {row.flow for row in rows} == {"reconstruct", "select"}


def test_what_is_there_is_counted_and_a_new_photograph_is_one_to_do(photos: Path, store: Store) -> None:
    copy_photographs(store, photos)
    found = planned(photos, store)
    assert counts(found)["working"] == (4, 0) and counts(found)["features"] == (0, 4)
    assert next(row for row in found.rows if row.stage.name == "working").exact
    photograph(4).save(photos / "0-new.png")
    found = planned(photos, store)
    assert counts(found)["working"] == (4, 1)
    assert (found.photographs, found.pairs) == (5, 10)


def test_a_forced_flow_is_all_to_do(photos: Path, store: Store) -> None:
    copy_photographs(store, photos)
    assert counts(planned(photos, store, force=["reconstruct"]))["working"] == (0, 4)


def test_nothing_is_made(photos: Path, store: Store) -> None:
    copy_photographs(store, photos)
    photograph(4).save(photos / "new.png")

    def tree() -> dict[str, tuple[int, int]]:
        files = [path for path in store.root.rglob("*") if path.is_file()]
        return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}

    planned(photos, store)  # remembers what it verified
    before = tree()
    planned(photos, store)
    assert tree() == before


def test_only_new_pairs_are_to_do(photos: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three of four photographs have features and their three pairs are matched: three pairs are left."""
    options = PipelineOptions().reconstruction
    entries = planned(photos, store).table.entries
    shas = sorted({entry.sha256 for entry in entries if entry.status == "ok"})
    pairs = [f"{a}-{b}" for a in shas[:3] for b in shas[:3] if a < b]
    for module, chosen, names in (
        (sift, options.features, shas[:3]),
        (match, options.matching, [*pairs, f"{shas[0]}-{'f' * 64}"]),
    ):
        stage = module.STAGE.model_copy(update={"schema_name": None, "suffix": ".bin"})  # any file will do
        monkeypatch.setattr(module, "STAGE", stage)
        store.produce(stage, chosen, [items_digest(dict.fromkeys(names, "x"))], chunk_of(names))
    rows = Estimates(store, PipelineOptions(), shas).rows("reconstruct")
    assert [(row.cached, row.todo) for row in rows if row.stage.name == "features"] == [(3, 1)]
    assert [(row.cached, row.todo) for row in rows if row.stage.name == "matches"] == [(3, 3)]


def chunk_of(names: list[str]) -> Callable[[Path], dict[str, Any]]:
    def build(out: Path) -> dict[str, Any]:
        out.write_bytes(b"x")
        return {"items": {name: {"input": "x", "content": "0" * 64} for name in names}}

    return build


def test_pairs_follow_the_options() -> None:
    options = PairOptions(exhaustive_below=300, neighbours=10, max_pair_share=0.06)
    assert expected_pairs(0, options) == expected_pairs(1, options) == 0
    assert expected_pairs(299, options) == 299 * 298 // 2
    assert expected_pairs(300, options) == int(0.06 * 300 * 299 / 2)  # the share is the smaller one
    assert expected_pairs(10000, options) == round(0.7 * 10000 * 15)  # the neighbours are


def test_the_expected_pairs_follow_the_strategy(tmp_path: Path) -> None:
    listing = tmp_path / "pairs.txt"
    listing.write_text("# two\na b\n\nb c\n")
    assert expected_pairs(50, PairOptions(strategy="list", list_file=listing)) == 2
    assert expected_pairs(50, PairOptions(strategy="list")) == 0
    assert expected_pairs(50, PairOptions(strategy="sequential", sequential={"overlap": 3})) == 150
    assert expected_pairs(3, PairOptions(strategy="sequential")) == 3
    assert expected_pairs(5000, PairOptions(strategy="exhaustive")) == 5000 * 4999 // 2
    assert expected_pairs(10000, PairOptions(strategy="vocabulary")) == round(0.7 * 10000 * 20)


def test_work_grows_with_pixels_scales_and_epochs() -> None:
    def of(stage: str, options: Any) -> float:
        return load(stage, canonical_options(options, lambda path: ""))

    single = of("descriptors", ExtractionOptions(image_size=480, scales=(1.0,)))
    assert single == 1.0
    assert of("descriptors", ExtractionOptions(image_size=240, scales=(1.0, 0.5))) == pytest.approx(
        0.25 * 1.25
    )
    assert of("finetune", TrainingOptions(image_size=362, epochs=3, queries_per_epoch=200)) == 600
    assert of("finetune", TrainingOptions(image_size=724, epochs=1, queries_per_epoch=10)) == 40
    assert of("finetune", TrainingOptions(queries_per_epoch=None)) > 0
    two_more = TrainingOptions(image_size=362, epochs=1, queries_per_epoch=70, positives_per_tuple=3)
    assert of("finetune", two_more) == pytest.approx(90)
    alone = TrainingOptions(
        image_size=362,
        epochs=2,
        queries_per_epoch=100,
        compared_with="descriptors",
        own_views=40,
        augment_crop=0.2,
    )
    assert of("finetune", alone) == pytest.approx(40)  # one photograph a tuple in place of seven
    matched = alone.model_copy(update={"through_matches": 0.5})
    assert of("finetune", matched) == pytest.approx(40 * 240 / 140)
    assert load("scene", {}) == 1.0


def sidecar(stage: str, seconds: float, items: int, size: int, options: dict[str, Any]) -> Sidecar:
    ref = ArtifactRef(
        stage=stage, key="0" * 64, path=f"{stage}/x", file_sha256="", content_sha256="", bytes=size
    )
    now = datetime.now(UTC)
    return Sidecar(
        ref=ref, key_parts={"options": options}, family="", items=items, created=now, seconds=seconds
    )


def test_costs_are_measured_where_work_was_done() -> None:
    small = {"image_size": 240, "scales": [1.0]}
    known = measured(
        [
            sidecar("descriptors", 2.0, 10, 1000, small),
            sidecar("descriptors", 2.0, 10, 3000, small),
            sidecar("scene", 3.0, 0, 50, {}),
            sidecar("finetune", 3.0, 0, 50, {"other": "version"}),
        ]
    )
    assert known["descriptors"] == Cost(seconds=4.0 / (20 * 0.25), bytes=200)
    assert known["scene"] == Cost(3.0, 50)
    assert "finetune" not in known and cost_of("finetune", known) == DEFAULTS["finetune"]
    assert cost_of("descriptors", known) == known["descriptors"]


def test_every_stage_has_a_default_cost() -> None:
    assert set(DEFAULTS) == set(stages_by_name())


def test_the_plan_is_a_table_for_people(photos: Path, store: Store) -> None:
    copy_photographs(store, photos)
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(render(make_plan(str(photos), str(store.root))))
    text = console.export_text()
    assert "4 different photographs, 1 files that cannot be used" in text
    assert "~6 pairs" in text and "nothing was done" in text
    line = next(line for line in text.splitlines() if " features " in line)
    assert "~4" in line and "~1.3 MiB" in line
    line = next(line for line in text.splitlines() if " working " in line)
    assert "│ 4 " in line and "~" not in line


def test_time_is_shared_by_the_workers(photos: Path, tmp_path: Path) -> None:
    found = planned(photos, tmp_path / "none")
    row = next(row for row in found.rows if row.stage == sift.STAGE)
    assert found.seconds(row) == pytest.approx(4 * DEFAULTS["features"].seconds / 2)
    assert found.bytes(row) == 4 * DEFAULTS["features"].bytes
