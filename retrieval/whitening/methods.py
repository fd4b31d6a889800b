"""How descriptors can be whitened, by name. Light: see `retrieval.whitening.whitening.whiten`."""

from __future__ import annotations

from typing import Any

METHODS = {"pcaw": "PCAw", "lw": "Lw"}
"""As stored -> as shown, in the order in which a run learns them."""
FROM_PAIRS = frozenset({"lw"})
"""Those that are learnt from matching pairs, so that positives and a shrinkage are chosen."""


def dimensions_of_a_whitening(options: Any) -> Any:
    """The options; dimensions can be left out of whitened descriptors only. Raises ValueError."""
    if options.dimensions is not None and options.whitening is None:
        raise ValueError("dimensions without a whitening: only whitened descriptors are ordered; give one")
    return options
