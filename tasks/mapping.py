"""3D models, one task per cluster, and the scene that holds all of them."""

from pathlib import Path
from typing import Any

from sfm import cluster_files, mapping, matching, model_import, scene_assembly
from sfm.cluster_files import Cluster
from sfm.mapping import MappingOptions, MappingResources
from sfm.model_import import ImportOptions
from sfm.scene import SceneOptions
from storage.artifacts import ArtifactRef
from storage.digests import json_sha256
from storage.photograph_folders import left_out_attributes
from storage.store import Store
from tasks.caching import artifact_path, publish, running, stage_task
from tasks.chunks import chunks_holding, file_of_items, holders, item_digests
from tasks.matching import attempts_of, split_pair
from tasks.photographs import left_out


@stage_task(mapping.STAGE, labels=("name", "clusters_of", "features", "matches", "working"))
def map_cluster(
    store: str,
    options: MappingOptions,
    inputs: list[str],
    name: str,
    clusters_of: ArtifactRef,
    features: list[ArtifactRef],
    matches: list[ArtifactRef],
    working: list[ArtifactRef],
    resources: MappingResources | None = None,
) -> ArtifactRef:
    """The 3D models of one cluster, or of a part of one that is too large (name: its smallest sha256)."""
    opened = running().store
    cluster = cluster_named(artifact_path(clusters_of), name)
    pairs = {split_pair(item): file for item, file in file_of_items(opened, matches).items()}

    def build(out: Path) -> dict[str, Any]:
        files, folders = file_of_items(opened, features), file_of_items(opened, working)
        summary = mapping.map_cluster(cluster, files, pairs, folders, options, out, resources=resources)
        return {"sidecar": {"cluster": name, **summary}}

    return publish(build)


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
    """Per cluster its name, the chunks that it is made from, and digests of what they say about it."""
    of_features, of_matches = item_digests(store, features), item_digests(store, matches)
    of_working = item_digests(store, working)
    in_features, in_matches, in_working = (holders(store, refs) for refs in (features, matches, working))
    calls = []
    for cluster in found:
        ids = {matching.pair_id(*pair): pair for pair in cluster.pairs}
        members = [[sha, of_features[sha], of_working[sha]] for sha in cluster.photographs]
        pairs = [[*pair, of_matches[item]] for item, pair in ids.items()]
        calls.append(
            {
                "name": cluster.name,
                "inputs": [json_sha256(members), json_sha256(pairs)],
                "features": chunks_holding(in_features, cluster.photographs),
                "matches": chunks_holding(in_matches, ids),
                "working": chunks_holding(in_working, cluster.photographs),
            }
        )
    return calls


@stage_task(scene_assembly.STAGE, labels=("proposals", "matches", "scan"))
def assemble_scene(
    store: str,
    options: SceneOptions,
    inputs: list[str],
    catalogue: ArtifactRef,
    found: ArtifactRef,
    models: list[ArtifactRef],
    proposals: list[ArtifactRef],
    matches: list[ArtifactRef],
    scan: ArtifactRef,
) -> ArtifactRef:
    """scene.h5: photographs, clusters, models, cameras, points, pairs (scan: of which it says what was left
    out)."""

    opened = running().store
    not_listed = left_out_attributes(left_out(opened, scan))
    facts = {ref.path: opened.sidecar(ref) for ref in models}
    folders = {side.facts["cluster"]: opened.path(side.ref) for side in facts.values() if side is not None}

    def build(out: Path) -> None:
        scene_assembly.build_scene(
            artifact_path(catalogue),
            artifact_path(found),
            attempts_of(proposals, matches),
            folders,
            options,
            out,
            inputs=inputs,
            attributes=not_listed,
        )

    return publish(build)


@stage_task(model_import.STAGE, labels=("scan",))
def import_scene(
    store: str, options: ImportOptions, inputs: list[str], catalogue: ArtifactRef, scan: ArtifactRef
) -> ArtifactRef:
    """scene.h5 of somebody's COLMAP models."""
    not_listed = left_out_attributes(left_out(running().store, scan))

    def build(out: Path) -> None:
        model_import.import_models(
            artifact_path(catalogue), options, out, inputs=running().inputs, attributes=not_listed
        )

    return publish(build)
