"""From a folder of photographs to proposed pairs through the stage tasks: names and positions arrive."""

from pathlib import Path

import pytest
from PIL import Image

from flows.options.loading import load
from sfm.pairing.listed import UnusablePairList
from sfm.pairing.proposal import read_pairs
from sfm.pairing.strategies import PairOptions
from sfm.photographs.catalogue import CatalogueOptions, read_positions
from sfm.photographs.outcome import read_outcomes
from sfm.photographs.working import STAGE, WorkingOptions, WorkingResources
from storage.hdf5 import file as hdf5
from storage.keys.artifacts import ArtifactRef
from storage.store.store import Store
from tasks.engine.chunks import Chunk, Items
from tasks.matching import pair_sources, propose_pairs
from tasks.photographs import (
    accepted,
    build_catalogue,
    check_pair_options,
    make_working_copies,
    proposal_facts,
    scan_photographs,
    to_decode,
    to_try_again,
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "store", min_free_bytes=0)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Frames 8 to 12 of a walk, 9 m apart; frame 10 has no position; a copy of frame 8 and a broken file."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(8, 13):
        exif = Image.Exif()
        block = exif.get_ifd(0x8825)
        if number != 10:
            block.update(
                {1: "N", 2: (48.0, 0.0, 0.3 * number), 3: "E", 4: (11.0, 30.0, 0.0), 5: b"\0", 6: 500.0}
            )
        picture = Image.new("RGB", (80, 60), (number * 20, 0, 0))
        picture.paste("white", (0, 0, 40, number))
        picture.save(folder / f"walk {number}.jpg", exif=exif)
    (folder / "copy.jpg").write_bytes((folder / "walk 8.jpg").read_bytes())
    (folder / "walk 9b.jpg").write_bytes(b"no photograph")
    return folder


def catalogue_of(store: Store, photos: Path) -> ArtifactRef:
    root = str(store.root)
    scan = scan_photographs.fn(root, str(photos))
    wanted = to_decode(store, scan)
    copies = make_working_copies.fn(root, WorkingOptions(), Chunk(wanted), photos=str(photos))
    return build_catalogue.fn(
        root, CatalogueOptions(), scan=scan, working=Items([copies]), photos=str(photos)
    )


def test_a_photograph_rejected_for_the_limit_is_tried_again_under_another(store: Store, photos: Path) -> None:
    """The limit is a resource and in no key: no outcome of another limit may stay."""
    root, wide = str(store.root), Image.new("RGB", (400, 300), "red")
    wide.paste("white", (0, 0, 100, 300))
    wide.save(photos / "wide.png")
    wanted = to_decode(store, scan_photographs.fn(root, str(photos)))
    limits = [WorkingResources(max_megapixels=pixels) for pixels in (0.1, 0.05, 200)]

    def copied(items: dict[str, str], limit: WorkingResources) -> ArtifactRef:
        return make_working_copies.fn(root, WorkingOptions(), Chunk(items), str(photos), resources=limit)

    def rejected(copies: list[ArtifactRef]) -> list[str]:
        outcomes = read_outcomes([store.path(ref) for ref in copies]).values()
        return [outcome.reason for outcome in outcomes if "the limit is" in outcome.reason]

    copies = [copied(wanted, limits[0])]
    assert len(rejected(copies)) == 1 and "0.1 megapixels" in rejected(copies)[0]
    assert to_try_again(store, copies, limits[0]) == {}
    for limit, expected in zip(limits[1:], (["0.05 megapixels"], []), strict=True):
        again = to_try_again(store, copies, limit)
        assert len(again) == 1
        both = [*copies, copied(again, limit)]
        assert [reason.split("the limit is ")[1].split(";")[0] for reason in rejected(both)] == expected
        assert to_try_again(store, both, limit) == {}
        (chunk,) = store.plan_items(STAGE, WorkingOptions(), again, 64)
        assert chunk.ref == both[-1]
    assert [chunk.ref for chunk in store.plan_items(STAGE, WorkingOptions(), wanted, 64)] == copies


def proposed(store: Store, catalogue: ArtifactRef, options: PairOptions) -> ArtifactRef:
    check_pair_options(store, catalogue, options)
    facts, shas = proposal_facts(store, catalogue, options), accepted(store, catalogue)
    return propose_pairs.fn(
        str(store.root), options, shas, descriptors=Items([]), features=Items([]), catalogue=facts
    )


def names_of(store: Store, catalogue: ArtifactRef, proposal: ArtifactRef) -> set[frozenset[str]]:
    rows = hdf5.read(store.path(catalogue), "catalogue", ["photos/sha256", "photos/name", "photos/status"])
    columns = (rows[f"photos/{key}"].tolist() for key in ("sha256", "name", "status"))
    name = {sha: name for sha, name, status in zip(*columns, strict=True) if status == "ok"}
    return {frozenset((name[a], name[b])) for a, b in read_pairs(store.path(proposal))}


def reconstruction_pairs(tmp_path: Path, text: str, *sets: str) -> PairOptions:
    """The pair options of a configuration file and of `--set`."""
    config = tmp_path / "config.yaml"
    config.write_text(f"reconstruction:\n  pairs: {text}\n")
    return load(config, [f"reconstruction.pairs.{each}" for each in sets])[0].reconstruction.pairs


def test_a_sequence_by_configuration(store: Store, photos: Path, tmp_path: Path) -> None:
    catalogue = catalogue_of(store, photos)
    options = reconstruction_pairs(tmp_path, "{strategy: sequential}", "sequential.overlap=1")
    found = proposed(store, catalogue, options)
    assert names_of(store, catalogue, found) == {
        frozenset(pair)
        for pair in (
            ("copy.jpg", f"walk {9}.jpg"),
            ("walk 9.jpg", "walk 10.jpg"),
            ("walk 10.jpg", "walk 11.jpg"),
            ("walk 11.jpg", "walk 12.jpg"),
        )
    }
    assert pair_sources(store, [found]) == ["sequential"]


def test_a_list_by_configuration_counts_by_its_content(store: Store, photos: Path, tmp_path: Path) -> None:
    catalogue, listing = catalogue_of(store, photos), tmp_path / "the pairs.txt"
    listing.write_text("walk 8.jpg walk 12.jpg\nwalk 11.jpg\twalk 9.jpg\nwalk 9b.jpg walk 9.jpg\n")
    options = reconstruction_pairs(tmp_path, "{strategy: auto}", "strategy=list", f"list_file={listing}")
    first = proposed(store, catalogue, options)
    expected = {frozenset(("copy.jpg", "walk 12.jpg")), frozenset(("walk 11.jpg", "walk 9.jpg"))}
    assert names_of(store, catalogue, first) == expected
    moved = listing.rename(tmp_path / "moved.txt")
    again = options.model_validate({**options.model_dump(), "list_file": moved})
    assert proposed(store, catalogue, again) == first
    moved.write_text("walk 10.jpg walk 12.jpg")
    assert proposed(store, catalogue, again) != first
    moved.write_text("walk 10.jpg walk 13.jpg")
    with pytest.raises(UnusablePairList, match=r"moved.txt, line 1: .*tab"):
        check_pair_options(store, catalogue, again)


def test_positions_of_exif_become_pairs(store: Store, photos: Path, tmp_path: Path) -> None:
    catalogue = catalogue_of(store, photos)
    positions = read_positions(store.path(catalogue))
    assert (positions[:, 1] == 11.5).sum() == 4
    options = reconstruction_pairs(
        tmp_path,
        "{strategy: neighbours, neighbours: 0, max_pair_share: 1, aggregation: {neighbours: 0}}",
        "spatial.max_distance_m=15",
        "spatial.neighbours=2",
    )
    found = proposed(store, catalogue, options)
    # 0.3 seconds of latitude are 9.3 m
    assert names_of(store, catalogue, found) == {
        frozenset(("copy.jpg", "walk 9.jpg")),
        frozenset(("walk 11.jpg", "walk 12.jpg")),
    }
    assert pair_sources(store, [found]) == ["spatial"]


def test_pairs_depend_on_names_and_positions_only_where_they_are_used(store: Store, photos: Path) -> None:
    before = catalogue_of(store, photos)
    (photos / "walk 12.jpg").rename(photos / "walk 7.jpg")
    after = catalogue_of(store, photos)
    assert before != after

    def same(**options: object) -> bool:
        chosen = PairOptions.model_validate(options)
        return facts(before, chosen) == facts(after, chosen)

    def facts(catalogue: ArtifactRef, chosen: PairOptions) -> list[str]:
        return list(proposal_facts(store, catalogue, chosen).facts)

    assert facts(before, PairOptions()) == []  # exhaustive below 300
    assert not same(strategy="sequential") and not same(strategy="list")
    assert same(strategy="neighbours") and same(strategy="vocabulary")
    assert len(facts(before, PairOptions(strategy="neighbours"))) == 1
    off = PairOptions(strategy="neighbours", spatial={"neighbours": 0})
    assert facts(before, off) == []
