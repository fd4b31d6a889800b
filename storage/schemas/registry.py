"""Every kind of file that there is, by name."""

from __future__ import annotations

import difflib
from functools import cache

from storage.schemas import (
    benchmark,
    descriptors,
    evaluation,
    features,
    matches,
    pairs,
    photographs,
    scene,
    search_index,
    training,
    training_set,
    whitening,
)
from storage.schemas.layout import Layout, UnknownSchema

KINDS = (
    photographs, descriptors, features, pairs, matches, scene, training_set, training, whitening, evaluation,
    benchmark, search_index,
)  # fmt: skip
"""The module of each kind, in the order of the pipeline."""


def layout(name: str, version: int | None = None) -> Layout:
    """The declared layout of this name, at its current or an older accepted version. Raises UnknownSchema."""
    known = all_layouts()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; known schemas: {', '.join(known)}"
        raise UnknownSchema(f"schema {name!r} is not declared{hint}")
    current = known[name]
    for candidate in (current, *current.previous):
        if version in (None, candidate.version):
            return candidate
    accepted = ", ".join(str(each.version) for each in (current, *current.previous))
    newer = version is not None and version > current.version
    remedy = "update this package" if newer else "rerun the stage that made it"
    raise UnknownSchema(f"schema {name!r} has version {version}, this package reads {accepted}; {remedy}")


@cache
def all_layouts() -> dict[str, Layout]:
    """Every declared layout by name, in the order of the pipeline."""
    return {each.name: each for module in KINDS for each in module.LAYOUTS}
