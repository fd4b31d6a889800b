"""From a folder to a catalogue: scan, working copies in chunks, the table of all files."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from prefect import task

from sfm.features import sift
from sfm.features.sift import FeatureOptions
from sfm.matching import match
from sfm.matching.match import MatchingOptions
from sfm.pairing.strategies import Known, PairOptions, facts_digests, strategy_of
from sfm.photographs import catalogue, working
from sfm.photographs.catalogue import CatalogueOptions
from sfm.photographs.outcome import read_outcomes
from sfm.photographs.working import WorkingOptions, WorkingResources
from storage.files.digests import json_sha256
from storage.hdf5 import file as hdf5
from storage.keys.artifacts import ArtifactRef
from storage.keys.options import Options
from storage.keys.stages import Stage
from storage.photographs.folders import left_out_attributes, read_left_out
from storage.photographs.scanning import NoPhotographs, PhotoSource, require_photographs, scan
from storage.photographs.tables import PhotoEntry, ScanTable, load_scan
from storage.store.store import Store
from tasks.engine.caching import artifact_path, running, stage_task
from tasks.engine.chunks import Chunk, Items, Part
from tasks.engine.progress import reporter

SCAN_STAGE = Stage(name="scan", version=1, schema_name="scan", suffix=".h5", packages=())


_REASONS = 5


class ScanOptions(Options):
    """A scan has no options: it reports what is there."""


def scan_table_path(store: Store, photos: str) -> Path:
    """Where the scan of a folder of photographs is kept between runs."""
    return store.root / "scans" / f"{json_sha256([str(Path(photos).resolve())])[:16]}.json"


def photo_source(store: Store, photos: str) -> PhotoSource:
    """The photographs of a folder as they were last scanned; scans it where that was never done."""
    path = scan_table_path(store, photos)
    return PhotoSource(Path(photos), load_scan(path) or scan(photos, path))


def files_of(store: Store, photos: str, shas: Iterable[str]) -> list[tuple[str, Path]]:
    """(sha256, file) of photographs of a folder, each still the one that was scanned."""
    source = photo_source(store, photos)
    names = {entry.sha256: entry.name for entry in source.table.entries if entry.status == "ok"}
    return [(sha, source.path(names[sha])) for sha in shas]


@task(name="scan_photographs", persist_result=False)
def scan_photographs(store: str, photos: str) -> ArtifactRef:
    """List a folder and digest what is new in it. Never cached: only a look at the folder can tell."""
    opened = Store.open(store)
    report = reporter("scan")
    table = scan(photos, scan_table_path(opened, photos), lambda done, total: report(done, total, "files"))
    require_photographs(table, photos)
    facts = left_out_attributes(table.left_out)

    def build(out: Path) -> None:
        hdf5.write(out, "scan", scan_arrays(table), stage="scan", options={}, inputs=[], attributes=facts)

    return opened.produce(SCAN_STAGE, ScanOptions(), scan_inputs(table), build)


def scan_inputs(table: ScanTable) -> list[str]:
    """What the key of a scan is made from. With what is left out, so that the file says it as it is now;
    its content has nothing of it, and so nothing that is made from the photographs depends on it."""
    return [table.content_sha256, *left_out_inputs(table.left_out)]


def left_out_inputs(left_out: Mapping[str, int]) -> list[str]:
    """For the key of what says how much was left out: a digest, none where nothing was."""
    return [json_sha256(dict(left_out))] if left_out else []


def left_out(store: Store, scan_ref: ArtifactRef) -> dict[str, int]:
    """How many files a scan left out, by ending or reason."""
    return read_left_out(store.path(scan_ref), "scan")


def scan_facts(store: Store, scan_ref: ArtifactRef) -> Part:
    """What a scene depends on in a scan: how many files it left out."""
    return Part([scan_ref], left_out_inputs(left_out(store, scan_ref)))


def scan_arrays(table: ScanTable) -> dict[str, Any]:
    """The datasets of scan.h5: nothing that differs on another machine."""
    return {
        "photos/name": table.names,
        "photos/sha256": table.sha256,
        "photos/bytes": np.array([entry.size for entry in table.entries], np.int64),
        "photos/status": table.status,
        "photos/reason": table.reason,
    }


@stage_task(working.STAGE, labels=("photos",))
def make_working_copies(
    out: Path,
    options: WorkingOptions,
    chunk: Chunk,
    photos: str,
    resources: WorkingResources | None = None,
) -> dict[str, Any]:
    """Upright, size-limited copies of a chunk of photographs (sha256)."""
    found = files_of(running().store, photos, chunk.made_from)
    return chunk.made(working.make_working_copies(found, options, out, resources or WorkingResources()))


@stage_task(catalogue.STAGE, labels=("photos",))
def build_catalogue(
    out: Path, options: CatalogueOptions, scan: ArtifactRef, working: Items, photos: str
) -> None:
    """Every file found and what became of it."""
    call = running()
    files, folders = scanned_files(artifact_path(scan)), [artifact_path(ref) for ref in working.refs]
    source = photo_source(call.store, photos)
    catalogue.build_catalogue(files, folders, source.path, out, inputs=call.inputs)


def scanned_files(path: Path) -> list[PhotoEntry]:
    """The rows of scan.h5."""
    columns = hdf5.read(path, "scan")
    fields = ("name", "sha256", "bytes", "status", "reason")
    rows = zip(*(columns[f"photos/{field}"].tolist() for field in fields), strict=True)
    return [PhotoEntry(name, sha, size, -1, -1, status, why) for name, sha, size, status, why in rows]


def accepted(store: Store, catalogue_ref: ArtifactRef) -> list[str]:
    """sha256 of the accepted photographs of a catalogue, sorted."""
    return list(catalogue.read_catalogue(store.path(catalogue_ref)).shas)


def check_usable(store: Store, catalogue_ref: ArtifactRef, photos: str) -> None:
    """Raise NoPhotographs that names the reasons where no photograph could be decoded."""
    columns = hdf5.read(store.path(catalogue_ref), "catalogue", ["photos/status", "photos/reason"])
    if "ok" in columns["photos/status"]:
        return
    reasons = Counter(str(reason) for reason in columns["photos/reason"])
    shown = "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common(_REASONS))
    more = f"; and {len(reasons) - _REASONS} other reasons" if len(reasons) > _REASONS else ""
    raise NoPhotographs(
        f"none of the {reasons.total()} files in {photos!r} is a usable photograph: {shown}{more}"
    )


def check_pair_options(store: Store, catalogue_ref: ArtifactRef, options: PairOptions) -> None:
    """Raise what is wrong with how pairs are to be proposed, before features are made for them."""
    known = known_photographs(store, catalogue_ref)
    strategy_of(options, len(known.shas)).check_options(known, options)


def known_photographs(store: Store, catalogue_ref: ArtifactRef) -> Known:
    """What a catalogue says of its accepted photographs that pairs may depend on."""
    path = store.path(catalogue_ref)
    return Known(accepted(store, catalogue_ref), catalogue.read_names(path), catalogue.read_positions(path))


def check_feature_options(
    store: Store,
    catalogue_ref: ArtifactRef,
    options: FeatureOptions,
    pair_options: PairOptions,
    matching_options: MatchingOptions,
) -> None:
    """Raise what is wrong with learned features, before anything is made with them."""
    if options.learned:
        strategy_of(pair_options, len(accepted(store, catalogue_ref))).check_learned()
        match.check_learned(matching_options)
        feature_groups(store, catalogue_ref, options)


def feature_groups(store: Store, catalogue_ref: ArtifactRef, options: FeatureOptions) -> dict[str, str]:
    """sha256 -> its group in the file that brings features, of every accepted photograph; {} without one."""
    names = catalogue.read_names(store.path(catalogue_ref), same_bytes=True)
    return sift.groups_of(options, names, accepted(store, catalogue_ref))


def file_names(store: Store, catalogue_ref: ArtifactRef) -> dict[str, str]:
    """sha256 -> file name, the first of several."""
    found: dict[str, str] = {}
    for name, sha in catalogue.read_names(store.path(catalogue_ref)).items():
        if sha:
            found.setdefault(sha, name)
    return found


def proposal_facts(store: Store, catalogue_ref: ArtifactRef, options: PairOptions) -> Part:
    """What pairs depend on in a catalogue."""
    return Part([catalogue_ref], facts_digests(known_photographs(store, catalogue_ref), options))


def to_decode(store: Store, scan_ref: ArtifactRef) -> dict[str, str]:
    """sha256 -> itself, of every different readable content of a scan: items of working copies."""
    return {sha: sha for sha, _ in catalogue.to_decode(scanned_files(store.path(scan_ref)))}


def to_try_again(store: Store, copies: Sequence[ArtifactRef], resources: WorkingResources) -> dict[str, str]:
    """sha256 -> what it is made from now, of photographs that were rejected for another limit than today's.

    The limit is a resource and in no key, so that the outcome of such a photograph has one of its own.
    """
    outcomes = read_outcomes([store.path(ref) for ref in copies])
    return {
        sha: working.input_under_limit(sha, resources)
        for sha, outcome in sorted(outcomes.items())
        if outcome.limit_megapixels not in (None, resources.max_megapixels)
    }
