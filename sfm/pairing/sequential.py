"""Pairs of a video-like set: each photograph with the next ones by file name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sfm.pairing.proposal import Proposal, proposal_of
from storage.keys.options import Options

_DIGITS = re.compile("([0-9]+)")


class SequentialOptions(Options):
    """Pairs of photographs that follow each other by file name."""

    overlap: int = Field(
        10, ge=1, description="next photographs that each one is matched with, or powers of two if quadratic"
    )
    quadratic_overlap: bool = Field(
        False, description="match with the 1st, 2nd, 4th, 8th, ... next instead, `overlap` of them"
    )
    loop_neighbours: int = Field(
        0, ge=0, description="nearest photographs by global descriptor in addition, where a path meets itself"
    )


def natural_key(name: str) -> tuple[Any, ...]:
    """Sort key of a path: folder by folder, numbers by value, so that 9.jpg stands before 10.jpg.

    Total: different names have different keys.
    """
    return tuple(_parts(folder) for folder in name.split("/")), name


def sequential_pairs(names: Mapping[str, str], shas: Sequence[str], options: SequentialOptions) -> Proposal:
    """The pairs of COLMAP's sequential matching over all files in natural order, source `sequential`.

    names: file -> sha256 of its photograph, "" = unusable; shas: N sorted sha256. A copy of a photograph
    keeps its place in the sequence, and its pairs are those of the original.
    """
    position = {sha: index for index, sha in enumerate(shas)}
    ordered = sorted((name for name in names if names[name] in position), key=natural_key)
    frames = np.array([position[names[name]] for name in ordered], np.int64)
    pairs = [_with_next(frames, step) for step in _steps(len(frames), options)]
    first, second = np.concatenate([np.empty((2, 0), np.int64), *pairs], axis=1)
    return proposal_of(first, second, len(shas), "sequential")


def _steps(count: int, options: SequentialOptions) -> list[int]:
    if not options.quadratic_overlap:
        return list(range(1, min(options.overlap, count - 1) + 1))
    return [1 << power for power in range(min(options.overlap, max(count - 1, 0).bit_length()))]


def _with_next(frames: NDArray[np.int64], step: int) -> NDArray[np.int64]:
    return np.stack([frames[:-step], frames[step:]])


def _parts(folder: str) -> tuple[Any, ...]:
    """Text, number, text, ...: a number as its length and digits, which int() refuses when there are many."""
    parts = _DIGITS.split(folder)
    numbers = [part.lstrip("0") for part in parts[1::2]]
    keys: list[Any] = list(parts)
    keys[1::2] = [(len(number), number) for number in numbers]
    return tuple(keys)
