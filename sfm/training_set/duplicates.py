"""A photograph that a list names twice: two names, one content."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_SHOWN = 5


class Contradiction(ValueError):
    """A list that says two things of one photograph."""


def first_with(digests: Sequence[str]) -> NDArray[np.int64]:
    """[N] position of the first of the list with the same digest: its own but for twins."""
    first: dict[str, int] = {}
    return np.array([first.setdefault(digest, row) for row, digest in enumerate(digests)], dtype=np.int64)


def twin_notes(names: Sequence[str], first: NDArray[np.int64]) -> list[str]:
    """A sentence on the twins of a list, none where it has none. first: of `first_with`."""
    twins = np.flatnonzero(first != np.arange(first.size)).tolist()
    shown = [f"{names[row]!r} = {names[int(first[row])]!r}" for row in twins[:_SHOWN]]
    more = f" and {len(twins) - _SHOWN} more" if len(twins) > _SHOWN else ""
    return [f"same photograph under two names, taken once: {', '.join(shown)}{more}"] if twins else []


def twin_error(names: Sequence[str], where: Sequence[str], one: int, other: int, why: str) -> Contradiction:
    """What to raise where a list says two things of one photograph. why: such as `30 m apart`."""
    return Contradiction(
        f"{where[other]}: {names[other]!r} is the same photograph as {names[one]!r} ({where[one]}), but they "
        f"are listed {why}; take the wrong one out of the list"
    )
