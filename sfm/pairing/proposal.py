"""Pairs of photographs that are worth matching, and the file that holds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from storage.hdf5 import file as hdf5


@dataclass(frozen=True)
class Proposal:
    """Sorted pairs (first < second, positions among the photographs), each with the sources of it."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    source: list[str]


def budget(count: int, share: float) -> int:
    """The most pairs that a share of all pairs of `count` photographs allows."""
    return int(share * count * (count - 1) / 2)


def proposal_of(first: NDArray[np.int64], second: NDArray[np.int64], count: int, source: str) -> Proposal:
    """Pairs of positions below `count` in any order as a proposal: each once, none of one with itself."""
    codes = np.unique((np.minimum(first, second) * count + np.maximum(first, second))[first != second])
    low, high = np.divmod(codes, max(count, 1))
    return Proposal(low, high, [source] * len(codes))


def combine(count: int, *proposals: Proposal) -> Proposal:
    """Several proposals over `count` photographs as one: each pair once, with all of its sources."""
    sources: dict[int, list[str]] = {}
    for proposal in proposals:
        codes = (proposal.first * count + proposal.second).tolist()
        for code, text in zip(codes, proposal.source, strict=True):
            known = sources.setdefault(code, [])
            known += [source for source in text.split("+") if source not in known]
    codes = sorted(sources)
    first, second = np.divmod(np.array(codes, np.int64), max(count, 1))
    return Proposal(first, second, ["+".join(sources[code]) for code in codes])


def write_pairs(
    out: Path,
    shas: Sequence[str],
    proposal: Proposal,
    stage: str,
    options: Mapping[str, object],
    inputs: Sequence[str],
) -> None:
    """Write a proposal over the photographs `shas` to `out` (schema pairs)."""
    arrays = {
        "photos/sha256": list(shas),
        "pairs/first": proposal.first,
        "pairs/second": proposal.second,
        "pairs/source": proposal.source,
    }
    hdf5.write(out, "pairs", arrays, stage=stage, options=options, inputs=inputs)


def read_pairs(path: Path) -> list[tuple[str, str]]:
    """The pairs of a file of schema pairs as (smaller sha256, larger sha256), sorted."""
    stored = hdf5.read(path, "pairs", ["photos/sha256", "pairs/first", "pairs/second"])
    shas = stored["photos/sha256"]
    pairs = zip(shas[stored["pairs/first"]].tolist(), shas[stored["pairs/second"]].tolist(), strict=True)
    return sorted((min(pair), max(pair)) for pair in pairs)
