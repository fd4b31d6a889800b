"""Selection as two steps on files: which pairs still need a look, then the training set.

First the guard: pairs of a photograph without verified pairs and a query cluster are proposed
(`guard_pairs`), matched by `sfm.matching`, and only then is the training set selected
(`select_training_set`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sfm.scene.tables import Pairs
from sfm.selection import choosing, cluster_guards, details, guards
from sfm.selection.choosing import SelectionOptions
from sfm.selection.decontamination import DecontaminationOptions
from storage.hdf5 import file as hdf5
from storage.keys.stages import Stage
from storage.schemas.training_set import Matched

if TYPE_CHECKING:
    from sfm.matching.match import Attempts
    from sfm.scene.scene import Scene

_PACKAGES = ("numpy", "scipy", "h5py")
GUARD_STAGE = Stage(
    name="guard_pairs", version=1, schema_name="pairs", suffix=".h5", packages=_PACKAGES, code=__name__
)
STAGE = Stage(
    name="training_set",
    version=1,
    schema_name="training_set",
    suffix=".h5",
    packages=_PACKAGES,
    code=__name__,
)


class SplitOptions(SelectionOptions):
    """Selection, and the seed that draws the splits."""

    seed: int = Field(default=0, ge=0, description="draws which clusters are train, val and test")
    decontamination: DecontaminationOptions = Field(
        default=DecontaminationOptions(), description="leaving out what a benchmark shows"
    )


def guard_pairs(
    scene: Scene,
    descriptors: NDArray[np.float32],
    options: SplitOptions,
    out: Path,
    *,
    inputs: Sequence[str] = (),
) -> int:
    """Write the pairs that must be matched before photographs may be negatives (schema pairs); their number.

    scene: with its attempts; descriptors: [N, D] L2-normalised, aligned with scene.photos. Raises
    BadDescriptors.
    """
    splits = choosing.assign_splits(scene, options, options.seed)
    alone = np.stack(guards.proposals(scene, descriptors, splits, options.guards), axis=1)
    between = cluster_guards.nearest_pairs(
        scene,
        descriptors,
        splits,
        num_clusters=options.guards.guard_clusters,
        num_pairs=options.guards.guard_photographs,
    )
    first, second = guards.unmatched(scene, np.concatenate([alone, between]))
    accepted, position = choosing.accepted_photographs(scene)
    arrays = {
        "photos/sha256": scene.photos.sha256[accepted],
        "pairs/first": position[first],
        "pairs/second": position[second],
    }
    described = options.model_dump(mode="json")
    hdf5.write(out, "pairs", arrays, stage=GUARD_STAGE.name, options=described, inputs=inputs)
    return int(first.size)


def select_training_set(
    scene: Scene,
    attempts: Attempts | None,
    options: SplitOptions,
    out: Path,
    *,
    pixels: details.Rows,
    inputs: Sequence[str] = (),
) -> Mapping[str, Any]:
    """Select and write training_set.h5; the summary of the selection.

    attempts: the guard's pairs with their raw inliers; pixels: visibility/xy_px of the scene, which may stay
    in its file. Raises NoModels, NoQueries.
    """
    accepted = np.where(scene.photos.cluster >= 0, scene.photos.sha256.astype("S64"), b"")
    matched = None if attempts is None else Pairs.of_digests(accepted, *attempts)
    splits = choosing.assign_splits(scene, options, options.seed)
    table = guards.verdicts(scene, splits, matched, options.guards)
    chosen = choosing.select(scene, options, options.seed, table)
    pairs, inliers = cluster_guards.agreeing(scene, matched, splits, options.matched_inliers)
    _, image_of = choosing.accepted_photographs(scene)
    chosen = replace(
        chosen,
        matched=Matched(image_of[pairs[:, 0]], image_of[pairs[:, 1]], inliers),
        harder=details.of_benchmarks(scene, chosen.benchmark, pixels),
    )
    chosen.to_h5(out, stage=STAGE.name, options=options.model_dump(mode="json"), inputs=list(inputs))
    return chosen.summary
