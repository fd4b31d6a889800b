"""Which images may show what a cluster shows, although they are of another one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

EXCLUDED = "negatives/excluded/indptr"
"""Where it is there, every query names its exclusions, and no photograph needs a verdict."""


def needs_verdict(arrays: Mapping[str, Any]) -> NDArray[np.bool_]:
    """[N]: whether the image is the only one of its cluster, and what it shows is not known either."""
    _, member, sizes = np.unique(
        np.asarray(arrays["images/cluster"]), return_inverse=True, return_counts=True
    )
    return np.asarray((sizes[member] == 1) & (EXCLUDED not in arrays))


def forbidden_positions(
    arrays: Mapping[str, Any], cluster: int, pool: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Positions in the pool that must not serve any query of the cluster: singletons without an allowed
    verdict, and whatever was refused."""
    here = np.asarray(arrays["negatives/cluster"]) == cluster
    allowed = np.asarray(arrays["negatives/allowed"], dtype=bool)
    images = np.asarray(arrays["negatives/image"])
    uncleared = needs_verdict(arrays)[pool] & ~np.isin(pool, images[here & allowed])
    return np.flatnonzero(uncleared | np.isin(pool, images[here & ~allowed]))
