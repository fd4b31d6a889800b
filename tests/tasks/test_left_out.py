"""What is left out is told by the scan as it is now; nothing that is made from photographs depends on it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from flows.cli.plans import render
from flows.options.pipeline import PipelineOptions, PipelineResources
from flows.planning.plan import make_plan
from sfm.photographs.catalogue import CatalogueOptions
from sfm.photographs.working import WorkingOptions
from storage.keys.artifacts import ArtifactRef
from storage.photographs.scanning import NoPhotographs
from storage.store.store import Store
from tasks.engine.chunks import Chunk, Items
from tasks.photographs import (
    build_catalogue,
    check_usable,
    left_out,
    left_out_inputs,
    make_working_copies,
    scan_photographs,
    to_decode,
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "store", min_free_bytes=0)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "a.png")
    return folder


def catalogue_of(store: Store, photos: Path) -> ArtifactRef:
    root = str(store.root)
    scan = scan_photographs.fn(root, str(photos))
    wanted = to_decode(store, scan)
    copies = make_working_copies.fn(root, WorkingOptions(), Chunk(wanted), photos=str(photos))
    return build_catalogue.fn(
        root, CatalogueOptions(), scan=scan, working=Items([copies]), photos=str(photos)
    )


def test_the_scan_says_it_as_it_is_now_and_has_the_same_content(store: Store, photos: Path) -> None:
    before = scan_photographs.fn(str(store.root), str(photos))
    assert left_out(store, before) == {} and left_out_inputs({}) == []
    catalogue = catalogue_of(store, photos)
    for name in ("notes.txt", "more.TXT", "paper.pdf"):
        (photos / name).write_text("no photograph")
    after = scan_photographs.fn(str(store.root), str(photos))
    assert left_out(store, after) == {".txt": 2, ".pdf": 1}
    assert after.content_sha256 == before.content_sha256 and after.key != before.key
    assert catalogue_of(store, photos) == catalogue
    (photos / "paper.pdf").unlink()
    assert left_out(store, scan_photographs.fn(str(store.root), str(photos))) == {".txt": 2}


def test_the_plan_says_it_too(store: Store, photos: Path) -> None:
    for number in range(12):
        (photos / f"{number}.txt").write_text("no photograph")
    console = Console(width=200)
    with console.capture() as capture:
        console.print(render(make_plan(str(photos), str(store.root), PipelineOptions(), PipelineResources())))
    assert "1 different photographs, 0 files that cannot be used; left out: 12 .txt" in capture.get()
    (photos / "a.png").unlink()
    with pytest.raises(NoPhotographs, match=r"0 photographs in .*: 12 \.txt; give"):
        render(make_plan(str(photos), str(store.root), PipelineOptions(), PipelineResources()))


def test_a_folder_without_photographs_ends_at_the_scan(store: Store, photos: Path) -> None:
    (photos / "a.png").write_text("no photograph")
    with pytest.raises(NoPhotographs, match=r"1 rejected \(not an image.* text\)"):
        scan_photographs.fn(str(store.root), str(photos))


def test_where_none_can_be_decoded_the_reasons_are_counted(store: Store, photos: Path) -> None:
    catalogue = catalogue_of(store, photos)
    check_usable(store, catalogue, str(photos))
    whole = (photos / "a.png").read_bytes()
    for number in range(3):
        (photos / f"{number}.png").write_bytes(whole[: 400 + number])
    Image.new("RGB", (80, 60)).save(photos / "a.png")
    catalogue = catalogue_of(store, photos)
    with pytest.raises(
        NoPhotographs, match=r"none of the 4 files .* usable.*: 3 x .*truncated.*; 1 x one even"
    ):
        check_usable(store, catalogue, str(photos))
