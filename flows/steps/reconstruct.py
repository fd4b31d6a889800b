"""Photographs to 3D models: catalogue, descriptors, features, pairs, matches, clusters, models, scene."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from flows.steps.work import Work
from retrieval.describe.options import ExtractionOptions
from sfm.mapping.map import MappingFailed
from sfm.photographs.catalogue import CatalogueOptions
from storage.keys.artifacts import ArtifactRef
from tasks.describing import describe_photographs, make_network, network_digest
from tasks.engine.chunks import Chunk, Items, chunks_holding, holders, item_digests
from tasks.engine.torch_process import end_torch_process
from tasks.mapping import assemble_scene, clusters_to_map, import_scene, map_cluster, mapping_calls
from tasks.matching import (
    ends,
    expand_pairs,
    extract_features,
    features_wanted,
    find_clusters,
    match_pairs,
    matches_of,
    pairs_wanted,
    propose_pairs,
)
from tasks.photographs import (
    accepted,
    build_catalogue,
    check_feature_options,
    check_pair_options,
    check_usable,
    feature_groups,
    file_names,
    make_working_copies,
    proposal_facts,
    scan_facts,
    scan_photographs,
    to_decode,
    to_try_again,
)


def steps(work: Work) -> None:
    """From the folder of photographs to scene.h5, noted in the run; for a list the scan alone."""
    if work.options.selection.list is not None:
        work.keep(scan=work.task(scan_photographs)(photos=work.photos))
        return
    read_photographs(work)
    describe(work)
    find_features(work)
    if work.options.reconstruction.colmap is not None:
        import_models(work)
        return
    match(work)
    map_models(work)


def read_photographs(work: Work) -> None:
    """Scan the folder, make working copies, write the catalogue."""
    scan, copies, catalogue = read_folder(work, work.photos)
    options = work.options.reconstruction
    check_usable(work.store, catalogue, work.photos)
    check_pair_options(work.store, catalogue, options.pairs)
    check_feature_options(work.store, catalogue, options.features, options.pairs, options.matching)
    work.keep(scan=scan, working=copies, catalogue=catalogue)


def read_folder(work: Work, folder: str) -> tuple[ArtifactRef, list[ArtifactRef], ArtifactRef]:
    """Scan, working copies and catalogue of a folder of photographs."""
    scan = work.task(scan_photographs)(photos=folder)
    wanted = to_decode(work.store, scan)
    copies = _copies(work, folder, wanted)
    again = to_try_again(work.store, copies, work.resources.working())
    if again:
        copies += _copies(work, folder, again)
    catalogue = work.task(build_catalogue)(
        options=CatalogueOptions(),
        scan=scan,
        working=Items(copies, list(wanted)),
        photos=folder,
    )
    return scan, copies, catalogue


def _copies(work: Work, folder: str, wanted: Mapping[str, str]) -> list[ArtifactRef]:
    return work.in_chunks(
        make_working_copies,
        wanted,
        workers=work.resources.workers,
        options=work.options.reconstruction.working,
        photos=folder,
        resources=work.resources.working(),
    )


def describe(work: Work) -> None:
    """Global descriptors of the network whose neighbours propose pairs."""
    options = work.options.reconstruction
    network = work.task(make_network)(options=options.network)
    descriptors = describe_all(
        work, network, accepted(work.store, work.one("catalogue")), options.description
    )
    end_torch_process()
    work.keep(proposal_network=network, proposal_descriptors=descriptors)


def describe_all(
    work: Work,
    network: ArtifactRef,
    shas: Sequence[str],
    options: ExtractionOptions,
    folder: str = "",
) -> list[ArtifactRef]:
    """Descriptors of photographs (sha256) by one network, in chunks; one task at a time has all threads.

    folder: where they are; empty: the run's.
    """
    digest = network_digest(work.store, network)
    return work.in_chunks(
        describe_photographs,
        dict.fromkeys(shas, digest),
        lambda chunk: {"chunk": replace(chunk, refs=[network])},
        workers=1,
        options=options,
        photos=folder or work.photos,
        resources=work.resources.extraction(),
        slot=work.resources.gpu_slot,
    )


def find_features(work: Work) -> None:
    """Local features of every accepted photograph."""
    catalogue = work.one("catalogue")
    shas = accepted(work.store, catalogue)
    work.keep(features=features_of(work, shas, work.many("working"), catalogue))


def features_of(
    work: Work, shas: Sequence[str], copies: list[ArtifactRef], catalogue: ArtifactRef
) -> list[ArtifactRef]:
    """Local features of photographs (sha256) from their working copies."""
    options, holding = work.options.reconstruction.features, holders(work.store, copies)
    groups, names = feature_groups(work.store, catalogue, options), file_names(work.store, catalogue)

    def given(chunk: Chunk) -> dict[str, Any]:
        return {
            "chunk": replace(chunk, refs=chunks_holding(holding, chunk.made_from)),
            "groups": {sha: groups[sha] for sha in chunk.made_from if sha in groups},
            "names": {sha: names[sha] for sha in chunk.made_from if sha in names},
        }

    return work.in_chunks(
        extract_features,
        features_wanted(item_digests(work.store, copies), shas, groups),
        given,
        workers=work.resources.workers,
        address=work.resources.cluster,
        options=options,
        resources=work.resources.features(),
    )


def match(work: Work) -> None:
    """Propose pairs and match them; what verifies suggests more, until nothing new is suggested."""
    options = work.options.reconstruction
    shas = accepted(work.store, work.one("catalogue"))
    descriptors, local = work.many("proposal_descriptors"), work.many("features")
    proposals = [
        work.task(propose_pairs)(
            options=options.pairs,
            shas=shas,
            descriptors=Items(descriptors, shas),
            features=Items(local, shas),
            catalogue=proposal_facts(work.store, work.one("catalogue"), options.pairs),
            resources=work.resources.pairs(),
        )
    ]
    matches = match_proposals(work, proposals)
    for _ in range(options.expansion.rounds):
        more = work.task(expand_pairs)(
            options=options.expansion,
            shas=shas,
            proposals=proposals,
            matches=matches_of(work.store, matches, proposals, local),
        )
        proposals.append(more)
        if not pairs_wanted(work.store, [more], local):
            break
        matches = match_proposals(work, proposals)
    work.keep(proposed_pairs=proposals, matches=matches)


def match_proposals(
    work: Work, proposals: list[ArtifactRef], more_features: Sequence[ArtifactRef] = ()
) -> list[ArtifactRef]:
    """Matches of every pair of some proposals, in chunks; more_features: beside those of the run."""
    local = [*work.many("features"), *more_features]
    holding = holders(work.store, local)
    return work.in_chunks(
        match_pairs,
        pairs_wanted(work.store, proposals, local),
        lambda chunk: {"chunk": replace(chunk, refs=chunks_holding(holding, ends(chunk.made_from)))},
        workers=work.resources.workers,
        address=work.resources.cluster,
        options=work.options.reconstruction.matching,
        resources=work.resources.matching(),
    )


def map_models(work: Work) -> None:
    """Clusters, the 3D models of each, and the scene."""
    options = work.options.reconstruction
    shas = accepted(work.store, work.one("catalogue"))
    matches, proposals = work.many("matches"), work.many("proposed_pairs")
    tried = matches_of(work.store, matches, proposals, work.many("features"))
    found = work.task(find_clusters)(
        options=options.clusters,
        shas=shas,
        proposals=proposals,
        matches=tried,
    )
    sources = (work.many("features"), matches, work.many("working"))
    models = work.fan_out(
        map_cluster,
        mapping_calls(work.store, clusters_to_map(work.store, found, options.mapping), *sources),
        workers=work.resources.workers,
        address=work.resources.cluster,
        tolerated=MappingFailed if options.scene.leave_out_failed else None,
        options=options.mapping,
        clusters_of=found,
        resources=work.resources.mapping(),
    )
    scene = work.task(assemble_scene)(
        options=options.scene,
        catalogue=work.one("catalogue"),
        found=found,
        models=models,
        proposals=proposals,
        matches=tried,
        scan=scan_facts(work.store, work.one("scan")),
    )
    work.keep(clusters=found, mapping=models, scene=scene)


def import_models(work: Work) -> None:
    """The scene of somebody's COLMAP models; what is matched afterwards is matched with our features."""
    scene = work.task(import_scene)(
        options=work.options.reconstruction.importing(),
        catalogue=work.one("catalogue"),
        scan=scan_facts(work.store, work.one("scan")),
    )
    work.keep(scene=scene)
