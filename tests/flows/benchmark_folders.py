"""Miniatures of official benchmarks as they lie on disk, and calls of `evaluate` on them."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from flows.cli import main

Pixels = NDArray[np.uint8]
SIDE = 64


def scene(seed: int, height: int = SIDE, width: int = SIDE) -> Pixels:
    """A picture that a random network tells from others: coarse coloured blocks."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (4, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR))


def noisy(pixels: Pixels, amount: int, seed: int = 0) -> Pixels:
    """The same picture with noise: the more, the farther from it in any network."""
    noise = np.random.default_rng(seed).integers(-amount, amount + 1, pixels.shape)
    return np.clip(pixels.astype(int) + noise, 0, 255).astype(np.uint8)


def put(path: Path, pixels: Pixels) -> None:
    """A file with exactly these pixels; called .jpg as the benchmarks have it, PNG inside."""
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    path.write_bytes(buffer.getvalue())


def evaluate(benchmark: str, data: Path, store: Path, *arguments: object) -> Any:
    """The outcome of `retrieval-sfm evaluate` in this process."""
    start = ["evaluate", "--benchmark", benchmark, "--data", data, "--store", store]
    return CliRunner().invoke(main.app, [str(each) for each in (*start, *arguments)])


def numbers(path: Path) -> dict[tuple[str, str], float]:
    """(protocol, metric) -> value in % of a csv that `evaluate` wrote."""
    with path.open(newline="") as file:
        return {(row["protocol"], row["metric"]): float(row["value"]) for row in csv.DictReader(file)}


def ran(result: Any, stage: str) -> bool:
    """Whether tasks of a stage ran, rather than being answered from the cache."""
    from tasks.engine.runtime import tallies

    return bool(tallies().get(stage, {}).get("run"))
