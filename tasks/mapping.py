"""3D models, one task per cluster, and the scene that holds all of them."""

from pathlib import Path
from typing import Any

from sfm.mapping import cluster_files
from sfm.mapping import map as mapping
from sfm.mapping.cluster_files import Cluster
from sfm.mapping.map import MappingOptions, MappingResources
from sfm.matching import match
from sfm.scene import assembly, importing
from sfm.scene.importing import ImportOptions
from sfm.scene.scene import SceneOptions
from storage.files.digests import json_sha256
from storage.keys.artifacts import ArtifactRef
from storage.photographs.folders import left_out_attributes
from storage.store.store import Store
from tasks.engine.caching import artifact_path, running, stage_task
from tasks.engine.chunks import Items, Part, chunks_holding, file_of_items, holders, item_digests
from tasks.matching import attempts_of, split_pair
from tasks.photographs import left_out


@stage_task(mapping.STAGE, labels=("name", "clusters_of"))
def map_cluster(
    out: Path,
    options: MappingOptions,
    name: str,
    clusters_of: ArtifactRef,
    features: Part,
    matches: Part,
    working: Part,
    resources: MappingResources | None = None,
) -> dict[str, Any]:
    """The 3D models of one cluster, or of a part of one that is too large (name: its smallest sha256)."""
    store, cluster = running().store, cluster_named(artifact_path(clusters_of), name)
    files, folders = file_of_items(store, features.refs), file_of_items(store, working.refs)
    pairs = {split_pair(item): file for item, file in file_of_items(store, matches.refs).items()}
    summary = mapping.map_cluster(cluster, files, pairs, folders, options, out, resources=resources)
    return {"sidecar": {"cluster": name, **summary}}


def cluster_named(path: Path, name: str) -> Cluster:
    """What is mapped together and has this smallest sha256, of a clusters file."""
    return next(unit for unit in _units(path) if unit.name == name)


def clusters_to_map(store: Store, found: ArtifactRef, options: MappingOptions) -> list[Cluster]:
    """Clusters and parts that are large enough for a model, the largest first: they take longest."""
    large = [c for c in _units(store.path(found)) if len(c.photographs) >= options.min_model_size]
    return sorted(large, key=lambda cluster: (-len(cluster.photographs), cluster.name))


def _units(path: Path) -> list[Cluster]:
    return [unit for cluster in cluster_files.read_clusters(path) for unit in cluster.units()]


def mapping_calls(
    store: Store,
    found: list[Cluster],
    features: list[ArtifactRef],
    matches: list[ArtifactRef],
    working: list[ArtifactRef],
) -> list[dict[str, Any]]:
    """Per cluster its name, the chunks that it is made from, and what they say about it: the features' part
    tells the working copies' too."""
    of_features, of_matches = item_digests(store, features), item_digests(store, matches)
    of_working = item_digests(store, working)
    in_features, in_matches, in_working = (holders(store, refs) for refs in (features, matches, working))
    calls = []
    for cluster in found:
        ids = {match.pair_id(*pair): pair for pair in cluster.pairs}
        members = [[sha, of_features[sha], of_working[sha]] for sha in cluster.photographs]
        pairs = [[*pair, of_matches[item]] for item, pair in ids.items()]
        calls.append(
            {
                "name": cluster.name,
                "features": Part(chunks_holding(in_features, cluster.photographs), [json_sha256(members)]),
                "matches": Part(chunks_holding(in_matches, ids), [json_sha256(pairs)]),
                "working": Part(chunks_holding(in_working, cluster.photographs), []),
            }
        )
    return calls


@stage_task(assembly.STAGE, labels=("proposals",))
def assemble_scene(
    out: Path,
    options: SceneOptions,
    catalogue: ArtifactRef,
    found: ArtifactRef,
    models: list[ArtifactRef],
    proposals: list[ArtifactRef],
    matches: Items,
    scan: Part,
) -> None:
    """scene.h5: photographs, clusters, models, cameras, points, pairs (scan: see `scan_facts`)."""
    call = running()
    facts = {ref.path: call.store.sidecar(ref) for ref in models}
    assembly.build_scene(
        artifact_path(catalogue),
        artifact_path(found),
        attempts_of(proposals, matches),
        {side.facts["cluster"]: call.store.path(side.ref) for side in facts.values() if side is not None},
        options,
        out,
        inputs=call.inputs,
        attributes=left_out_attributes(left_out(call.store, scan.refs[0])),
    )


@stage_task(importing.STAGE)
def import_scene(out: Path, options: ImportOptions, catalogue: ArtifactRef, scan: Part) -> None:
    """scene.h5 of somebody's COLMAP models (scan: see `scan_facts`)."""
    call = running()
    not_listed = left_out_attributes(left_out(call.store, scan.refs[0]))
    importing.import_models(artifact_path(catalogue), options, out, inputs=call.inputs, attributes=not_listed)
