"""How the pairs of a scene are made. Its tables: `storage.schemas.scene`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.schemas import scene as schema

NONE = -1


class BadScene(ValueError):
    """Parts of a scene that do not fit together."""


class Pairs(schema.Pairs):
    """Pairs of photographs [K], first < second, with their number of inliers; sorted."""

    @classmethod
    def sorted(cls, first: Any, second: Any, inliers: Any) -> Pairs:
        """Pairs in either direction and any order -> each once, first < second.

        Of repeated pairs the most inliers.
        """
        one, other = (np.asarray(side, dtype=np.int64).reshape(-1) for side in (first, second))
        count = np.asarray(inliers, dtype=np.int64).reshape(-1)
        if np.any(one == other):
            raise BadScene(f"pair of photograph {one[one == other][0]} with itself")
        low, high = np.minimum(one, other), np.maximum(one, other)
        order = np.lexsort((-count, high, low))
        low, high, count = low[order], high[order], count[order]
        keep = np.ones(low.size, dtype=bool)
        keep[1:] = (np.diff(low) != 0) | (np.diff(high) != 0)
        return cls(low[keep], high[keep], count[keep])

    @classmethod
    def of_digests(cls, sha256: NDArray[np.bytes_], pairs: Sequence[tuple[str, str]], inliers: Any) -> Pairs:
        """Pairs of digests, as matching names photographs, over the accepted photographs of a scene or
        catalogue.

        sha256: [N], b"" where a photograph is not accepted. Raises BadScene for a digest that is not there.
        """
        index = {digest.decode(): photo for photo, digest in enumerate(sha256.tolist()) if digest}
        unknown = [digest for pair in pairs for digest in pair if digest not in index]
        if unknown:
            raise BadScene(f"a matched pair names {unknown[0]}, which is no accepted photograph")
        return cls.sorted([index[one] for one, _ in pairs], [index[other] for _, other in pairs], inliers)

    @classmethod
    def none(cls) -> Pairs:
        return cls.sorted([], [], [])
