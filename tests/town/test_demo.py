"""The demo: its town is rendered once; a smaller town goes through the whole chain, judged by its cameras."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console

from flows.cli import results
from storage.hdf5 import file as hdf5
from storage.keys.code import closure
from storage.store.ledger import RunRecord
from storage.store.store import Store
from tests.town.alignment import similarity
from town import demo
from town.town import Town, TownOptions, render_town

TINY = {
    "buildings": 2, "min_views": 2, "max_views": 2, "distractors": 1,
    "image_width": 80, "image_height": 64, "texels_per_m": 16, "supersample": 1, "points": 20,
}  # fmt: skip
BUILDINGS, VIEWS = 4, 6
CHAIN = TownOptions(
    buildings=BUILDINGS, min_views=VIEWS, max_views=VIEWS, distractors=4, image_width=360, image_height=270
)
QUICK = (
    "reconstruction.description.image_size=96", "description.image_size=96", "description.multi_scales=[1.0]",
    "training.epochs=1", "training.queries_per_epoch=4", "training.image_size=96",
    "whitening.shrinkage_grid=[1.0]", "selection.guards.guard_inliers=15",
)  # fmt: skip


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a tiny town is rendered to."""
    monkeypatch.setattr(demo, "TOWN", TINY)
    return tmp_path / "photos"


def test_the_town_is_rendered_once(photos: Path) -> None:
    assert demo.render(photos)
    before = {path.name: path.stat().st_mtime_ns for path in photos.iterdir()}
    assert len(before) == 5 and set(before) == set(Town.load(demo.truth_file(photos)).names)
    assert not demo.render(photos)
    assert {path.name: path.stat().st_mtime_ns for path in photos.iterdir()} == before


def test_the_truth_is_not_among_the_photographs(photos: Path) -> None:
    demo.render(photos)
    beside = {path.name for path in photos.parent.iterdir()}
    assert beside == {"photos", "photos-truth.h5", "photos-town.json"}


def test_a_town_that_is_not_whole_or_out_of_date_is_rendered_again(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    demo.render(photos)
    first, second, *_ = sorted(photos.iterdir())
    whole = first.read_bytes(), second.read_bytes()
    first.unlink()
    second.write_bytes(b"changed")
    assert demo.render(photos)
    assert (first.read_bytes(), second.read_bytes()) == whole
    monkeypatch.setattr(demo, "TOWN", {**TINY, "seed": 1})
    assert demo.render(photos)
    assert not first.exists() and len(list(photos.iterdir())) == 5


def test_an_interrupted_rendering_leaves_nothing_in_the_way(photos: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        demo.render(photos, stop)
    assert not photos.exists()
    assert demo.render(photos) and len(list(photos.iterdir())) == 5


def test_other_files_are_left_alone(photos: Path) -> None:
    photos.mkdir()
    (photos / "mine.jpg").write_bytes(b"a photograph")
    with pytest.raises(demo.FolderNotTown, match=r"'mine.jpg', which is not of the demo's town; .*--photos"):
        demo.render(photos)
    assert (photos / "mine.jpg").read_bytes() == b"a photograph"


def test_the_town_depends_on_its_options_and_its_code(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {"town.town", "town.render"} <= set(closure("town.town"))
    before = demo.town_digest()
    monkeypatch.setattr(demo, "TOWN", {**demo.TOWN, "buildings": 13})
    assert demo.town_digest() != before
    TownOptions(**demo.TOWN)


@dataclass(frozen=True)
class Chain:
    """Two runs of the whole chain on one town: what each made, and what ran in each."""

    town: Town
    store: Store
    first: RunRecord
    second: RunRecord
    ran: dict[str, int]
    ran_again: dict[str, int]

    def read(self, name: str, member: str = "") -> dict[str, Any]:
        (ref,) = self.first.refs_of(name)
        return hdf5.read(self.store.path(ref) / member if member else self.store.path(ref))

    def building_of(self, names: NDArray[Any]) -> NDArray[np.int64]:
        """True building of photographs by name, -1 = distractor."""
        row = {name: index for index, name in enumerate(self.town.names)}
        return self.town.building[[row[str(name)] for name in names]]


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """The town through end_to_end, twice."""
    folder = tmp_path_factory.mktemp("chain")
    town = render_town(folder / "photos", CHAIN)
    store = Store.create(folder / "store", min_free_bytes=0)
    (first, ran), (second, ran_again) = (run_once(folder / "photos", store) for _ in range(2))
    return Chain(town, store, first, second, ran, ran_again)


def run_once(photos: Path, store: Store) -> tuple[RunRecord, dict[str, int]]:
    """The whole chain, and how many tasks of each stage were not cached."""
    from flows.end_to_end import end_to_end
    from flows.options.loading import load
    from flows.server.context import session
    from tasks.engine.runtime import reset_tallies, tallies

    options, resources = load(None, QUICK)
    reset_tallies()
    with session(store.root) as command:
        record = command.run(
            end_to_end, photos=str(photos), store=str(store.root), options=options, resources=resources
        )
    return record, {stage: counts["run"] for stage, counts in tallies().items()}


@pytest.mark.slow
def test_every_building_becomes_its_own_model(chain: Chain) -> None:
    scene = chain.read("scene")
    model, building = scene["photos/model"], chain.building_of(scene["photos/name"])
    assert (model[building < 0] == -1).all()
    assert len(scene["models/cluster"]) == BUILDINGS
    for number in range(BUILDINGS):
        assert np.unique(model[building == number]).size == 1, f"building {number}"
        assert model[building == number][0] >= 0
    assert np.unique(model[building >= 0]).size == BUILDINGS


@pytest.mark.slow
def test_cameras_are_where_they_were(chain: Chain) -> None:
    """Medians: centres within 1 % of the extent, rotations within 1 degree, after a similarity."""
    scene, town = chain.read("scene"), chain.town
    names = scene["photos/name"][scene["cameras/photo"]]
    rows = np.array([town.names.index(str(name)) for name in names])
    for model in range(BUILDINGS):
        mine = scene["cameras/model"] == model
        found, true = scene["cameras/center_in_world"][mine], town.center_in_world[rows[mine]]
        scale, rotation, shift = similarity(found, true)
        errors = np.linalg.norm(scale * found @ rotation.T + shift - true, axis=1)
        assert np.median(errors) < 0.01 * town.extent(int(town.building[rows[mine][0]])), f"model {model}"
        turn = np.einsum(
            "nji,njk->nik",
            town.cam_from_world[rows[mine]][:, :, :3],
            scene["cameras/cam_from_world"][mine][:, :, :3],
        )  # from the model's frame to the town's: the same for every camera
        u, _, vt = np.linalg.svd(turn.mean(axis=0))
        cosine = (np.einsum("nij,ij->n", turn, u @ vt) - 1) / 2
        degrees = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
        assert np.median(degrees) < 1 and degrees.max() < 2, f"model {model}: {degrees}"


@pytest.mark.slow
def test_positives_never_cross_buildings(chain: Chain) -> None:
    chosen = chain.read("training_set")
    building, query = chain.building_of(chosen["images/name"]), chosen["queries/image"]
    assert query.size > BUILDINGS
    for name in ("candidates", "positives/m1_pool", "positives/m3"):
        asked = np.repeat(query, np.diff(chosen[f"{name}/indptr"]))
        assert asked.size and (building[asked] == building[chosen[f"{name}/image"]]).all(), name
    best = chosen["positives/m2"]
    assert (building[query[best >= 0]] == building[best[best >= 0]]).all()
    for split in ("val", "test"):
        for label in ("easy", "hard"):
            at = f"benchmark/{split}"
            asked = np.repeat(chosen[f"{at}/queries"], np.diff(chosen[f"{at}/{label}/indptr"]))
            assert (building[asked] == building[chosen[f"{at}/{label}/image"]]).all()
        assert chosen[f"{at}/queries"].size


@pytest.mark.slow
def test_mined_negatives_are_never_of_the_querys_building(chain: Chain) -> None:
    building = chain.building_of(chain.read("training_set")["images/name"])
    training = chain.read("finetune", "training.h5")
    queries, negatives = training["mined/query"], training["mined/negatives"]
    assert queries.size and (building[queries] >= 0).all()
    there = negatives >= 0
    assert there.any(axis=1).all()
    asked = np.broadcast_to(queries[:, None], negatives.shape)
    assert (building[asked[there]] != building[negatives[there]]).all()


@pytest.mark.slow
def test_the_second_run_computes_nothing_and_says_the_same(chain: Chain) -> None:
    stages = {"scene", "training_set", "finetune", "whiten", "evaluate"}
    assert all(chain.ran[stage] for stage in stages)
    assert set(chain.ran_again) == set(chain.ran) and not any(chain.ran_again.values())
    for name in ("scene", "training_set", "finetune", "whiten", "evaluation"):
        digests = [
            [ref.content_sha256 for ref in record.refs_of(name)] for record in (chain.first, chain.second)
        ]
        assert digests[0] and digests[0] == digests[1]


@pytest.mark.slow
@pytest.mark.parametrize("width", [80, 140])
def test_what_a_person_reads_is_whole(chain: Chain, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(width=width, record=True, file=io.StringIO())
    monkeypatch.setattr(results, "out", console)
    monkeypatch.setattr("flows.terminal.console.out", console)  # the lines that are folded nowhere
    results.show(chain.first, chain.store.root, chain.store.root / "prefect" / "a.log")
    text = console.export_text()
    tables, _, paths = text.rpartition("\nscene  ")
    assert "…" not in text and max(map(len, tables.splitlines())) <= width
    for said in (
        f"photographs: {BUILDINGS * VIEWS + 4} files, {BUILDINGS * VIEWS} of them registered in 4 3D models",
        "queries: train", "training, epoch by epoch", "whitening Lw", "fine-tuned minus off-the-shelf",
    ):  # fmt: skip
        assert said in tables
    assert f"run {chain.first.id}: completed" in paths


@pytest.mark.slow
def test_the_files_that_a_run_names_are_there(chain: Chain) -> None:
    found = dict(results.files(chain.first, chain.store.root))
    assert set(found) == {
        "scene", "training_set", "evaluation", "network", "training", "whitening single", "COLMAP models",
        "record", "report",
    }  # fmt: skip
    assert all(path.is_absolute() and path.exists() for path in found.values())


@pytest.mark.slow
def test_a_building_of_a_benchmark_is_dropped_with_the_evidence(chain: Chain, tmp_path: Path) -> None:
    """Another crop of one photograph of val (train has one building), noise, a file that is no photograph."""
    whole = chain.read("training_set")
    mine = np.flatnonzero((whole["images/split"] == 1) & whole["images/registered"])[0]
    benchmark = tmp_path / "bench ü"
    benchmark.mkdir()
    with Image.open(chain.store.root.parent / "photos" / str(whole["images/name"][mine])) as photograph:
        photograph.crop((10, 10, 340, 255)).save(benchmark / "a crop.jpg", quality=80)
    Image.effect_noise((200, 150), 90).convert("RGB").save(benchmark / "noise.png")
    (benchmark / "broken.jpg").write_bytes(b"no picture")
    record, _ = select_again(chain, benchmark)
    path = chain.store.path(record.refs_of("training_set")[0])
    rest, cluster = hdf5.read(path), whole["images/cluster"]
    assert rest["dropped/cluster"].tolist() == [cluster[mine]]
    assert rest["dropped/photographs"].tolist() == [(cluster == cluster[mine]).sum()]
    assert rest["dropped/benchmark_image"].tolist() == ["a crop.jpg"] and rest["dropped/inliers"][0] >= 15
    assert set(whole["images/name"]) - set(rest["images/name"]) == set(
        whole["images/name"][cluster == cluster[mine]]
    )
    assert [ref.content_sha256 for ref in record.refs_of("whole_training_set")] == [
        ref.content_sha256 for ref in chain.first.refs_of("training_set")
    ]
    again, ran = select_again(chain, benchmark)
    assert again.refs["training_set"] == record.refs["training_set"] and not any(ran.values())
    console = Console(width=140, record=True, file=io.StringIO())
    for part in results.parts(record, chain.store.root, 140):
        console.print(part)
    assert "1 clusters that show what the benchmark shows" in console.export_text()


def select_again(chain: Chain, benchmark: Path) -> tuple[RunRecord, dict[str, int]]:
    """The flow `select` with a benchmark, and how many tasks of each stage were not cached."""
    from flows.options.loading import load_stage
    from flows.select import select
    from flows.server.context import session
    from tasks.engine.runtime import reset_tallies, tallies

    root, run = chain.store.root, chain.first.id
    sets = [f"selection.decontamination.benchmark={benchmark}"]
    options, resources = load_stage("select", None, sets, store=root, from_run=run)
    reset_tallies()
    with session(root) as command:
        record = command.run(select, store=str(root), from_run=run, options=options, resources=resources)
    return record, {stage: counts["run"] for stage, counts in tallies().items()}
