"""Which pairs of photographs are worth matching: all of a small collection, neighbours of several kinds of
a large one, or what the user says.

One source of neighbours is the global descriptor, another the collection's own local features, so that what
is found does not hang on a descriptor that is to be evaluated later; GPS positions are the third. See
`sfm.pairing.strategies`; `sfm.pairing.expansion` adds pairs after the first matching.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sfm.pairing.proposal import Proposal, write_pairs
from sfm.pairing.strategies import Known, PairOptions, UnusableDescriptors, strategy_of
from sfm.pairing.vocabulary import VocabularyResources
from storage.keys.stages import Stage

logger = logging.getLogger(__name__)

STAGE = Stage(
    name="pairs",
    version=1,
    schema_name="pairs",
    suffix=".h5",
    packages=("pycolmap", "numpy", "scipy", "h5py"),
    code=__name__,
)


def propose_pairs(
    shas: Sequence[str],
    descriptors: NDArray[np.float32],
    options: PairOptions,
    out: Path,
    *,
    features: Mapping[str, Path] | None = None,
    names: Mapping[str, str] | None = None,
    positions: NDArray[np.float64] | None = None,
    resources: VocabularyResources | None = None,
    inputs: Sequence[str] = (),
) -> Proposal:
    """Write the pairs to match first to `out` (schema pairs).

    shas: sha256 of N photographs, sorted; descriptors: [N, D], L2-normalised, in the same order; features:
    sha256 -> its features file, needed for neighbours by local features; names: file name -> sha256, "" =
    unusable, needed for sequential and list; positions: [N, 3] latitude and longitude in degrees, altitude in
    m, nan = unknown. Raises UnusableDescriptors, UnusableStrategy, UnusablePairList, ChildFailed.
    """
    started = time.monotonic()
    if list(shas) != sorted(set(shas)):
        raise UnusableDescriptors(
            "photographs must be given sorted by sha256, each once; sort them with their rows"
        )
    known = Known(shas, names or {}, positions, descriptors, features, resources)
    strategy = strategy_of(options, len(shas))
    strategy.check(known, options)
    proposal = strategy.propose(known, options)
    write_pairs(out, shas, proposal, STAGE.name, {"pairs": options.model_dump(mode="json")}, inputs)
    logger.info(
        "%d pairs of %d photographs proposed in %.1f s",
        len(proposal.first),
        len(shas),
        time.monotonic() - started,
    )
    return proposal
