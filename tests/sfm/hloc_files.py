"""Files of local features as hloc writes them, for tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np


def write_hloc(path: Path, photographs: Mapping[str, Mapping[str, Any]], *, half: bool = True) -> Path:
    """One group per photograph (name -> arrays); half: floats as float16, hloc's default."""
    with h5py.File(path, "w", libver="latest") as file:
        for name, arrays in photographs.items():
            group = file.create_group(name)
            for key, values in arrays.items():
                array = np.asarray(values)
                group[key] = array.astype(np.float16) if half and array.dtype.kind == "f" else array
    return path


def blank(count: int = 3, length: int = 4, size: tuple[int, int] = (80, 60), **other: Any) -> dict[str, Any]:
    """Arrays of a photograph of `size` with `count` keypoints; None in `other` leaves an array out."""
    rng = np.random.default_rng(count + length)
    arrays = {
        "keypoints": rng.uniform(0, 1, (count, 2)) * np.subtract(size, 1),
        "descriptors": rng.normal(size=(length, count)),
        "scores": np.linspace(1, 0.5, count),
        "image_size": np.array(size),
    }
    return {key: value for key, value in (arrays | other).items() if value is not None}
