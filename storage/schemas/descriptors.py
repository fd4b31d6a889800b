"""Global descriptors, one item per photograph."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from storage.schemas.layout import Dataset, Layout
from storage.schemas.rules import UNIT_SLACK, Columns, Unsound


def unit_descriptors(columns: Columns) -> Iterator[tuple[str, str]]:
    """Global descriptors have length 1."""
    for _, path in columns.items("{photo}/global_descriptor"):
        try:
            length = float(np.linalg.norm(columns.once(path)))
        except Unsound:
            continue
        if abs(length - 1) > UNIT_SLACK:
            yield path, f"has length {length:.4g}; descriptors are L2-normalised"


DESCRIPTORS = Layout(
    name="descriptors",
    version=1,
    description="Global descriptors, in hloc's layout: one group per photograph.",
    groups={"{photo}": "global descriptor of one photograph"},
    datasets=(Dataset("{photo}/global_descriptor", ("D",), "float32", "descriptor, L2-normalised"),),
    rules=(unit_descriptors,),
)


LAYOUTS = (DESCRIPTORS,)
