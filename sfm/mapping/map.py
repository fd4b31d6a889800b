"""One cluster of photographs -> its 3D models, by one of COLMAP's mappers in a child process.

The result is a folder with one COLMAP model per sub-folder `0`, `1`, .. (largest first; image names are
`<sha256>.jpg`, coordinates those of the working copies) and `summary.json`. No model at all is a valid
result. Fixed seeds and one thread make it the same, byte for byte, on every run.
"""

from __future__ import annotations

import json
import logging
import math
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from sfm.features.database import image_name, write_features, write_geometries
from sfm.mapping.cluster_files import Cluster
from sfm.matching.match import read_verified
from storage.children.errors import ChildFailed, ChildKilled, ChildLate
from storage.children.patience import run_patiently
from storage.keys.options import Options, Resources
from storage.keys.stages import Stage

logger = logging.getLogger(__name__)

STAGE = Stage(
    name="mapping",
    version=1,
    kind="directory",
    packages=("pycolmap", "numpy", "scipy", "h5py"),
    code=__name__,
)
SUMMARY = "summary.json"
_FOCAL_RATIO, _MAX_DISTORTION = (0.1, 10.0), 1.0  # what COLMAP's mappers themselves filter by while they map


class MappingOptions(Options):
    """Mapping of one cluster and what counts as a model."""

    mapper: Literal["incremental", "global"] = Field(
        "incremental",
        description="COLMAP's mapper: one photograph after the other, or all at once, which the init_ and "
        "pose_ options do not concern",
    )
    min_model_size: int = Field(3, ge=2, description="registered photographs of a model at least")
    min_points: int = Field(25, ge=0, description="3D points of a model at least")
    min_points_per_photo: float = Field(
        15.0, ge=0, description="3D points that a model's photographs see on average, at least"
    )
    min_own_photos: int = Field(
        1, ge=0, description="photographs of a model that no larger one of its cluster has, at least"
    )
    max_reprojection_error_px: float = Field(
        2.0, gt=0, description="mean reprojection error of a model at most, px"
    )
    init_min_tri_angle_deg: float = Field(
        4.0, gt=0, description="triangulation angle of the first pair, degrees"
    )
    init_min_inliers: int = Field(50, ge=15, description="inliers of the first pair")
    pose_min_inliers: int = Field(15, ge=6, description="2D-3D inliers that register a photograph")
    seed: int = Field(0, ge=0, description="seed of every random choice")


class MappingResources(Resources):
    """What mapping may use; a cluster is mapped on one thread, several clusters side by side."""

    time_limit_s: float = Field(1800.0, gt=0, description="a cluster that takes longer fails, seconds")


class UnmappableCluster(ValueError):
    """A cluster whose photographs or pairs are not all there."""


class MappingFailed(ChildFailed):
    """A cluster on which native code hung or aborted, each time that it was tried."""


def map_cluster(
    cluster: Cluster,
    features: Mapping[str, Path],
    matches: Mapping[tuple[str, str], Path],
    working: Mapping[str, Path],
    options: MappingOptions,
    out: Path,
    *,
    resources: MappingResources | None = None,
) -> dict[str, Any]:
    """Map one cluster into the folder `out` and return its summary.

    features: sha256 -> features file; matches: verified pair -> match file; working: sha256 -> folder of its
    working copy. Raises UnmappableCluster, MappingFailed (naming the cluster; at the
    time limit too), ChildFailed.
    """
    resources = resources or MappingResources()
    started = time.monotonic()
    _check(cluster, features, matches, working)
    out.mkdir(parents=True, exist_ok=True)
    summary: dict[str, Any] = {"photographs": len(cluster.photographs), "models": [], "dropped": []}
    if len(cluster.photographs) >= options.min_model_size:
        request = {
            "features": {sha: str(features[sha]) for sha in cluster.photographs},
            "matches": [(first, second, str(matches[first, second])) for first, second in cluster.pairs],
            "images": {sha: str(working[sha] / f"{sha}.jpg") for sha in cluster.photographs},
            "options": options.model_dump(mode="json"),
            "out": str(out),
        }
        label = f"mapping of cluster {cluster.name[:12]} ({len(cluster.photographs)} photographs)"
        summary |= _mapped(request, label, resources)
    (out / SUMMARY).write_text(json.dumps(summary, indent=1, sort_keys=True) + "\n")
    logger.info(
        "cluster %s: %d models of %d photographs in %.1f s",
        cluster.name[:12], len(summary["models"]), len(cluster.photographs), time.monotonic() - started,
    )  # fmt: skip
    return summary


def _mapped(request: dict[str, Any], label: str, resources: MappingResources) -> dict[str, Any]:
    """The child's summary. A kill from outside, of the kernel when memory is short, is no cluster's fault."""
    try:
        reply: dict[str, Any] = run_patiently(
            "sfm.mapping.map:_map", request, label=label, total_limit_s=resources.time_limit_s
        )
        return reply
    except ChildLate as late:
        remedy = "raise resources.mapping_time_limit_s, lower reconstruction.clusters.max_cluster_size, "
        raise _failed(late, remedy) from late
    except ChildKilled as killed:
        if not killed.crashed:
            raise
        raise _failed(killed, "choose another reconstruction.mapping.mapper, ") from killed


def _failed(error: ChildFailed, remedy: str) -> MappingFailed:
    remedy = f"; the other clusters are kept; {remedy}or leave this cluster out with "
    option = "reconstruction.scene.leave_out_failed=true"
    return MappingFailed(error.what + remedy + option, error.label, error.at, error.log)


def model_folders(folder: Path) -> list[Path]:
    """The COLMAP models of a mapped cluster, in order."""
    count = len(json.loads((folder / SUMMARY).read_text())["models"])
    return [folder / str(index) for index in range(count)]


def _check(
    cluster: Cluster,
    features: Mapping[str, Path],
    matches: Mapping[tuple[str, str], Path],
    working: Mapping[str, Path],
) -> None:
    for sha in cluster.photographs:
        for what, known in (("features", features), ("working copy", working)):
            if sha not in known:
                raise UnmappableCluster(f"cluster {cluster.name[:12]}: no {what} of {sha}; make it first")
    for pair in cluster.pairs:
        if pair not in matches:
            raise UnmappableCluster(
                f"cluster {cluster.name[:12]}: no matches of {pair[0]}-{pair[1]}; match it first"
            )


def _map(request: dict[str, Any], scratch: Path) -> dict[str, Any]:
    """The child's work: a database of the cluster alone, map, keep the sound models."""
    options = MappingOptions(**request["options"])
    database, images, raw = scratch / "cluster.db", scratch / "images", scratch / "models"
    images.mkdir()
    raw.mkdir()
    for left in Path(request["out"]).iterdir():  # of a process that was killed
        shutil.rmtree(left)
    for sha, path in request["images"].items():
        (images / image_name(sha)).symlink_to(Path(path).resolve())
    identifiers = write_features(database, request["features"], with_descriptors=False)
    write_geometries(database, identifiers, read_verified(request["matches"]))
    models = _MAPPERS[options.mapper](database, images, raw, options)
    removed = {index: _without_impossible(model, raw / str(index)) for index, model in models.items()}
    facts = {index: _facts(model) | removed[index] for index, model in models.items()}
    members = {index: _registered(model) for index, model in models.items()}
    kept = _worth_keeping(facts, members, options)
    for position, index in enumerate(kept):
        shutil.copytree(raw / str(index), Path(request["out"]) / str(position))
    dropped = [facts[index] for index in sorted(facts.keys() - set(kept))]
    return {"models": [facts[index] for index in kept], "dropped": dropped}


def _worth_keeping(
    facts: Mapping[int, dict[str, Any]], members: Mapping[int, set[str]], options: MappingOptions
) -> list[int]:
    """The sound models, largest first, but those that only repeat photographs of larger ones: the mapper
    starts anew from pairs that it could not reconcile with the model before."""
    sound = [index for index in facts if _is_sound(facts[index], options)]
    kept: list[int] = []
    seen: set[str] = set()
    for index in sorted(sound, key=lambda i: (-facts[i]["registered"], -facts[i]["points"], i)):
        if len(members[index] - seen) >= options.min_own_photos:
            kept.append(index)
            seen |= members[index]
    return kept


def _incremental(database: Path, images: Path, out: Path, options: MappingOptions) -> dict[int, Any]:
    import pycolmap

    pipeline = pycolmap.IncrementalPipelineOptions()
    for each in (pipeline, pipeline.mapper, pipeline.triangulation):
        each.random_seed = options.seed
    pipeline.num_threads = pipeline.mapper.num_threads = 1  # two threads do not give the same model twice
    pipeline.min_model_size = options.min_model_size
    pipeline.structure_less_registration_fallback = False  # it can go on for ever on hard clusters
    pipeline.mapper.init_min_tri_angle = options.init_min_tri_angle_deg
    pipeline.mapper.init_min_num_inliers = options.init_min_inliers
    pipeline.mapper.abs_pose_min_num_inliers = options.pose_min_inliers
    return pycolmap.incremental_mapping(database, images, out, pipeline)


def _global(database: Path, images: Path, out: Path, options: MappingOptions) -> dict[int, Any]:
    import pycolmap

    pipeline = pycolmap.GlobalPipelineOptions()
    mapper = pipeline.mapper
    seeded = (pipeline, mapper, mapper.rotation_averaging, mapper.global_positioning, mapper.retriangulation)
    for each in seeded:
        each.random_seed = options.seed
    pipeline.num_threads = mapper.num_threads = 1
    mapper.global_positioning.use_gpu = mapper.bundle_adjustment.ceres.use_gpu = False  # as on every machine
    pipeline.min_model_size = options.min_model_size
    return pycolmap.global_mapping(database, images, out, pipeline)


_MAPPERS = {"incremental": _incremental, "global": _global}


def _without_impossible(model: Any, folder: Path) -> dict[str, int]:
    """Take photographs out of a model, and out of its `folder`, whose camera the last adjustment drove to
    what no lens is: a focal length far from the photograph's size or below zero, or a wild distortion."""
    identifiers = [i for i in model.reg_image_ids() if _is_impossible(model.image(i).camera)]
    for identifier in identifiers:
        model.deregister_frame(model.image(identifier).frame_id)
    if identifiers:
        model.tear_down()  # the cameras of photographs that are not registered
        model.write(folder)
    return {"impossible_cameras": len(identifiers)}


def _is_impossible(camera: Any) -> bool:
    finite = all(math.isfinite(value) for value in camera.params)
    return not finite or camera.has_bogus_params(*_FOCAL_RATIO, _MAX_DISTORTION)


def _registered(model: Any) -> set[str]:
    """Names of a model's registered images."""
    return {model.image(identifier).name for identifier in model.reg_image_ids()}


def _facts(model: Any) -> dict[str, Any]:
    registered = model.num_reg_images()
    observations = model.compute_num_observations()
    return {
        "registered": registered,
        "points": model.num_points3D(),
        "points_per_photo": observations / registered if registered else 0.0,
        "reprojection_error_px": model.compute_mean_reprojection_error() if model.num_points3D() else 0.0,
    }


def _is_sound(facts: Mapping[str, Any], options: MappingOptions) -> bool:
    return (
        facts["registered"] >= options.min_model_size
        and facts["points"] >= options.min_points
        and facts["points_per_photo"] >= options.min_points_per_photo
        and facts["reprojection_error_px"] <= options.max_reprojection_error_px
    )
