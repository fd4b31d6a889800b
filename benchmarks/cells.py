"""Results that are kept in the project, a JSON file per cell: they name no folder of the machine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.files.whole import write_json

_FOLDERS = re.compile(r"(?<![\w.:/])/(?:[\w.+@-]+/)+")


def write_cell(path: Path, told: Any, *, indent: int | None = 1) -> None:
    """Write it whole or not at all; of absolute paths in its texts the last names stay."""
    write_json(path, without_folders(told), indent=indent)


def nullable(values: NDArray[np.float64]) -> list[float | None]:
    """JSON of values [N], where nan is null."""
    return [None if np.isnan(value) else value for value in values.tolist()]


def without_folders(told: Any) -> Any:
    """JSON values whose texts hold no absolute folder: '/tmp/x/a.log: failed' -> 'a.log: failed'."""
    if isinstance(told, str):
        return _FOLDERS.sub("", told)
    if isinstance(told, Mapping):
        return {name: without_folders(value) for name, value in told.items()}
    if isinstance(told, list | tuple):
        return [without_folders(value) for value in told]
    return told
