"""What `inspect` would say against an artifact keeps it from being published, in files and in folders."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import describe
from storage.hdf5 import file as hdf5
from storage.inspect import soundness
from storage.keys.artifacts import BrokenBuild
from storage.keys.options import Options
from storage.keys.stages import Stage
from storage.schemas import rules
from storage.store.store import Store
from tests.storage.hdf5.test_relations import DEFECTS
from tests.storage.layout_samples import SAMPLES, training_set, write_sample
from tests.storage.test_inspection_defects import DEFECTS as BYTES

Plant = Callable[[h5py.File], Any]


def build_of(name: str, plant: Plant, inside: str = "") -> Callable[[Path], None]:
    """A build that writes a sample of a layout and damages it; inside: name within a folder."""

    def build(path: Path) -> None:
        file = path / inside if inside else path
        file.parent.mkdir(parents=True, exist_ok=True)
        write_sample(file, name)
        with h5py.File(file, "r+") as opened:
            plant(opened)

    return build


def stage_of(name: str, kind: Any = "file") -> Stage:
    if kind == "directory":
        return Stage(name="folder", kind="directory")
    return Stage(name=name.replace("_", "-"), schema_name=name, suffix=".h5")


def nothing_left(store: Store, stage: Stage) -> bool:
    return [path.name for path in (store.root / stage.name).iterdir()] == []


@pytest.mark.parametrize("name", SAMPLES)
def test_what_is_sound_is_published(store: Store, options: Options, name: str) -> None:
    ref = store.produce(stage_of(name), options, [], build_of(name, lambda file: None))
    assert describe(store.path(ref)).violations == ()


@pytest.mark.parametrize(("name", "plant", "place", "text"), DEFECTS.values(), ids=DEFECTS)
def test_a_contradiction_between_columns_is_not_published(
    store: Store, options: Options, name: str, plant: Plant, place: str, text: str
) -> None:
    stage = stage_of(name)
    with pytest.raises(BrokenBuild) as caught:
        store.produce(stage, options, [], build_of(name, plant))
    assert text in str(caught.value) or "more" in str(caught.value)
    assert nothing_left(store, stage)


@pytest.mark.parametrize(("plant", "place", "text"), BYTES.values(), ids=BYTES)
def test_neither_is_what_breaks_a_promise_by_itself(
    store: Store, options: Options, plant: Plant, place: str, text: str
) -> None:
    with pytest.raises(BrokenBuild):
        store.produce(stage_of("scene"), options, [], build_of("scene", plant))
    assert nothing_left(store, stage_of("scene"))


@pytest.mark.parametrize(("name", "plant", "place", "text"), DEFECTS.values(), ids=DEFECTS)
def test_a_member_of_a_folder_counts_as_a_file_does(
    store: Store, options: Options, name: str, plant: Plant, place: str, text: str
) -> None:
    stage = stage_of(name, "directory")
    with pytest.raises(BrokenBuild, match=r"parts/a\.h5: "):
        store.produce(stage, options, [], build_of(name, plant, "parts/a.h5"))
    assert nothing_left(store, stage)


def write_network(path: Path) -> None:
    path.write_bytes(b"\x02\x00\x00\x00\x00\x00\x00\x00{]")


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_a_damaged_network_is_not_published(store: Store, options: Options, kind: Any) -> None:
    suffix = ".safetensors" if kind == "file" else ""
    stage = Stage(name="network", kind=kind, suffix=suffix)
    name = "network.safetensors"
    with pytest.raises((BrokenBuild, ValueError), match="cannot be read"):
        store.produce(
            stage, options, [], lambda path: write_network(path / name if kind == "directory" else path)
        )


def test_train_and_val_never_share_a_cluster(store: Store, options: Options, tmp_path: Path) -> None:
    """As it was: written and published without a word, then rejected by `inspect`."""
    arrays = training_set()
    cluster = np.asarray(arrays["images/cluster"]).copy()
    split = np.asarray(arrays["images/split"])
    cluster[split == 1] = cluster[split == 0][0]
    arrays["images/cluster"] = cluster

    def build(path: Path) -> None:
        hdf5.write(path, "training_set", arrays, stage="select", options={}, inputs=[])

    build(tmp_path / "alone.h5")
    assert any("would share a place" in each.message for each in describe(tmp_path / "alone.h5").violations)
    stage = stage_of("training_set")
    with pytest.raises(BrokenBuild, match="train, val and test would share a place"):
        store.produce(stage, options, [], build)
    assert nothing_left(store, stage)


def test_what_is_streamed_is_looked_at_too(store: Store, options: Options) -> None:
    """A pair with matches that no attempt tells of: the writer of items cannot know, publishing does."""
    stage = stage_of("matches")
    sample = SAMPLES["matches"]()
    pair = next(path for path in sample if path.endswith("/matches0")).removesuffix("/matches0")
    items = {name.rsplit("/", 1)[1]: value for name, value in sample.items() if name.startswith(pair)}
    table = {name: value for name, value in sample.items() if name.startswith("attempts/")}

    def build(path: Path) -> None:
        with hdf5.ItemWriter(path, "matches", stage="match", options={}, inputs=[]) as writer:
            writer.add(pair, **items)
            writer.add_table(table | {"attempts/inliers": np.zeros_like(table["attempts/inliers"])})

    with pytest.raises(BrokenBuild, match="does not list as verified"):
        store.produce(stage, options, [], build)


@pytest.mark.parametrize("name", SAMPLES)
def test_publishing_reads_every_row_in_blocks_as_inspect_does_in_full(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However large a file is: nothing is left out for its size, and blocks do not change what is found."""
    path = write_sample(tmp_path / "a.h5", name)
    for kind, plant, _, _ in DEFECTS.values():
        if kind == name:
            damaged = write_sample(tmp_path / "b.h5", name)
            with h5py.File(damaged, "r+") as file:
                plant(file)
            found = soundness.problems_of_artifact(damaged)
            assert found
            with monkeypatch.context() as small:
                small.setattr(rules, "ENTRIES", 1)
                small.setattr(soundness, "MAX_ROWS", 0)
                assert soundness.problems_of_artifact(damaged) == found
            damaged.unlink()
    assert soundness.problems_of_artifact(path) == []


@given(st.lists(st.integers(0, 4), max_size=12), st.integers(1, 6))
def test_blocks_of_a_csr_hold_every_entry_once(lengths: list[int], most: int) -> None:
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    values = np.arange(indptr[-1])

    class Plain:
        def __getitem__(self, path: str) -> Any:
            return indptr

        def part(self, path: str, start: int, stop: int) -> Any:
            return values[start:stop]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rules, "ENTRIES", most)
        blocks = list(rules.csr_blocks(Plain(), "indptr", "values"))
    assert [begin for begin, _, _ in blocks] == [
        int(sum(len(row) for _, row, _ in blocks[:at])) for at in range(len(blocks))
    ]
    entries = [value for _, _, (part,) in blocks for value in part.tolist()]
    assert entries == values.tolist()
    rows = [row for _, each, _ in blocks for row in each.tolist()]
    assert rows == np.repeat(np.arange(len(lengths)), lengths).tolist()
    assert all(len(row) <= most or len(set(row.tolist())) == 1 for _, row, _ in blocks)
