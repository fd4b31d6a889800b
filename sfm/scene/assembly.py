"""The step on files: catalogue, matches, clusters and the folders of COLMAP models become scene.h5."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sfm.mapping import cluster_files
from sfm.mapping import map as mapping
from sfm.matching import match
from sfm.scene.scene import SceneOptions, assemble
from sfm.scene.tables import NONE, Pairs
from storage.hdf5 import file as hdf5
from storage.keys.stages import Stage

STAGE = Stage(
    name="scene",
    version=1,
    schema_name="scene",
    suffix=".h5",
    packages=("pycolmap", "numpy", "scipy", "h5py"),
    code=__name__,
)


def build_scene(
    catalogue: Path,
    clusters: Path,
    attempts: match.Attempts,
    models: Mapping[str, Path],
    options: SceneOptions,
    out: Path,
    *,
    inputs: Sequence[str] = (),
    attributes: Mapping[str, str] | None = None,
) -> None:
    """Write scene.h5; attributes: facts beside its content.

    attempts: every pair that was matched and its raw inliers; models: name of a cluster or of a part of one
    (its smallest sha256) -> the folder that mapping made of it; models of all its parts are the cluster's.
    Pairs are those that join the clusters; every attempt is kept beside them. Raises BadScene, BadModel.
    """
    columns = hdf5.read(catalogue, "catalogue")
    sha256 = np.where(columns["photos/status"] == "ok", columns["photos/sha256"].astype("S64"), b"")
    found = cluster_files.read_clusters(clusters)
    number = {unit.name: position for position, cluster in enumerate(found) for unit in cluster.units()}
    folders: dict[int, list[Path]] = {}
    for name, folder in sorted(models.items()):
        folders.setdefault(number[name], []).extend(mapping.model_folders(folder))
    tried, inliers = attempts
    joins = {pair for cluster in found for pair in cluster.pairs}
    verified = [position for position, pair in enumerate(tried) if pair in joins]
    scene = assemble(
        columns,
        _cluster_of_photos(sha256, found),
        folders,
        pairs=Pairs.of_digests(sha256, [tried[position] for position in verified], inliers[verified]),
        attempts=Pairs.of_digests(sha256, tried, inliers),
        options=options,
    )
    described = options.model_dump(mode="json")
    scene.to_h5(out, stage=STAGE.name, options=described, inputs=inputs, attributes=attributes)


def _cluster_of_photos(
    sha256: NDArray[np.bytes_], found: Sequence[cluster_files.Cluster]
) -> NDArray[np.int64]:
    """[N] position of each photograph's cluster, -1 for a file that is not accepted."""
    of = {sha: position for position, cluster in enumerate(found) for sha in cluster.photographs}
    return np.array([of.get(digest.decode(), NONE) for digest in sha256.tolist()], dtype=np.int64)
