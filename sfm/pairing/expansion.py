"""More pairs after a round of matching: two photographs that share a verified neighbour may show the same
place.

Rounds go on until nothing new is proposed or the budget is spent; each round is one artifact.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.sparse import triu

from sfm.mapping.components import symmetric
from sfm.pairing.proposal import Proposal, budget, write_pairs
from storage.keys.options import Options
from storage.keys.stages import Stage

logger = logging.getLogger(__name__)

STAGE = Stage(
    name="expansion",
    version=1,
    schema_name="pairs",
    suffix=".h5",
    packages=("numpy", "scipy", "h5py"),
    code=__name__,
)


class ExpansionOptions(Options):
    """Proposal of pairs from what has been verified."""

    rounds: int = Field(4, ge=0, description="rounds at most, each followed by matching; 0 = do not expand")
    min_inliers: int = Field(15, ge=1, description="inliers that make two photographs neighbours")
    per_photo: int = Field(20, ge=1, description="new pairs of one photograph in one round at most")
    max_pair_share: float = Field(
        0.08, gt=0, le=1, description="pairs tried at most in all, share of all pairs"
    )


def expand_pairs(
    shas: Sequence[str],
    attempts: Sequence[tuple[str, str]],
    inliers: NDArray[np.int64],
    options: ExpansionOptions,
    out: Path,
    *,
    inputs: Sequence[str] = (),
) -> Proposal:
    """Write the pairs of the next round to `out` (schema pairs); none where nothing is left to propose.

    shas: N sorted sha256; attempts: every pair matched so far, with its raw inliers [A]
    (`matching.read_attempts`).
    """
    started = time.monotonic()
    position = {sha: index for index, sha in enumerate(shas)}
    tried = np.array([(position[a], position[b]) for a, b in attempts], np.int64).reshape(-1, 2)
    most = max(0, budget(len(shas), options.max_pair_share) - len(attempts))
    first, second = shared_neighbours(
        tried, inliers >= options.min_inliers, len(shas), options.per_photo, most
    )
    proposal = Proposal(first, second, ["expansion"] * len(first))
    write_pairs(out, shas, proposal, STAGE.name, {"expansion": options.model_dump(mode="json")}, inputs)
    logger.info("%d more pairs after %d in %.1f s", len(first), len(attempts), time.monotonic() - started)
    return proposal


def shared_neighbours(
    tried: NDArray[np.int64], is_verified: NDArray[np.bool_], count: int, per_photo: int, most: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Untried pairs with a common verified neighbour, first < second, sorted.

    tried: [A, 2] positions below `count`, is_verified: [A]. A pair with more common neighbours goes first;
    at most `per_photo` of one photograph and `most` in all.
    """
    edges = tried[is_verified]
    adjacency = symmetric(edges, count)
    common = triu(adjacency @ adjacency, k=1).tocoo()
    known = set((np.minimum(*tried.T) * count + np.maximum(*tried.T)).tolist()) if len(tried) else set()
    codes = common.row.astype(np.int64) * count + common.col
    new = np.array([code not in known for code in codes.tolist()], bool)
    codes, shared = codes[new], common.data[new]
    used = np.zeros(count, np.int64)
    chosen: list[int] = []
    for code in codes[np.lexsort((codes, -shared))].tolist():
        pair = divmod(code, count)
        if len(chosen) >= most:
            break
        if used[pair[0]] < per_photo and used[pair[1]] < per_photo:
            used[list(pair)] += 1
            chosen.append(code)
    first, second = np.divmod(np.sort(np.array(chosen, np.int64)), max(count, 1))
    return first, second
