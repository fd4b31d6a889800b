"""Re-ranking by geometry: photographs that show the same thing move to the front."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def by_inliers(inliers: ArrayLike, minimum: int) -> NDArray[np.int64]:
    """The new order of a list [n] whose entries, best first, agree with the query in so many matches.

    inliers: [n], -1 = not matched. Those with at least `minimum` come first, most inliers first; all others
    follow as they were; of equal ones the earlier. Raises ValueError for a minimum below 1.
    """
    counts = np.asarray(inliers, dtype=np.int64)
    if minimum < 1 or counts.ndim != 1:
        raise ValueError(f"minimum {minimum} of inliers {counts.shape}: at least 1, of one list")
    return np.argsort(np.where(counts >= minimum, -counts, 0), kind="stable")
