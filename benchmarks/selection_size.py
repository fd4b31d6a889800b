"""Selection at the size of the original: from scene.h5 on disk to a published training_set.h5.

    python -m benchmarks.selection_size [--shares 0.0625 0.25 1] [--repeat 1] [--work DIR] [--json FILE]

Scenes by the law of `benchmarks.synthetic_city`. Each selection is a process of its own with two threads;
seconds and peak memory (VmHWM) are those of the process from before it opens the scene until the training set
is in the store, imports not counted in the seconds but in the memory. `growth` is how much longer an
observation takes than in the size before. Exit code 1 over 120 s or 6 GB at full size, or where a size grows
faster than linearly by more than a tenth.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.acceptance_runs import CODE

MOST_SECONDS, MOST_BYTES, MOST_GROWTH = 120.0, 6_000_000_000, 1.1
OBSERVATIONS = 100_000_000


@dataclass(frozen=True)
class Row:
    """One size."""

    share: float
    models: int
    photographs: int
    observations: int
    largest: int
    seconds: float
    peak_bytes: int
    queries: int
    candidates: int

    @property
    def per_million(self) -> float:
        """Seconds per million observations."""
        return self.seconds / self.observations * 1e6


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Selection at the size of the original.")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.0625, 0.25, 1.0])
    parser.add_argument("--repeat", type=int, default=1, help="runs of a size; the median time counts")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--select", type=Path, nargs=2, metavar=("SCENE", "STORE"), help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.select:
        print(json.dumps(select(*asked.select)))
        return 0
    console, rows = Console(), []
    with tempfile.TemporaryDirectory(prefix="selection-", dir=asked.work) as folder:
        for share in sorted(asked.shares):
            rows.append(measure(share, Path(folder) / f"{share:g}", asked.repeat))
            console.print(asdict(rows[-1]))
    if asked.json:
        asked.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    console.print(table(rows))
    return 0 if holds(rows) else 1


def measure(share: float, folder: Path, repeat: int) -> Row:
    """Make a scene, select from it in processes of their own."""
    folder.mkdir()
    scene = folder / "scene.h5"
    command = [sys.executable, "-m", "benchmarks.synthetic_city", str(scene), "--share", str(share)]
    subprocess.run(command, cwd=CODE, check=True)
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "2")
    found = []
    for number in range(repeat):
        store = str(folder / f"store{number}")
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.selection_size", "--select", str(scene), store],
            cwd=CODE, env={**os.environ, **threads, "PYTHONPATH": str(CODE)},
            stdout=subprocess.PIPE, check=True,
        )  # fmt: skip
        found.append(json.loads(done.stdout.splitlines()[-1]))
    found.sort(key=lambda each: float(each["seconds"]))
    scene.unlink()
    return Row(share, **{**found[len(found) // 2], "peak_bytes": max(each["peak_bytes"] for each in found)})


def select(scene_file: Path, root: Path) -> dict[str, float]:
    """One selection; what it took."""
    from sfm.scene.scene import Scene
    from sfm.selection import stages
    from sfm.selection.stages import SplitOptions
    from storage.hdf5.access import open_file
    from storage.hdf5.digests import content_sha256
    from storage.hdf5.open import open_artifact
    from storage.store.store import Store

    store, options = Store.create(root, min_free_bytes=0), SplitOptions()
    facts: dict[str, float] = {}
    started = time.monotonic()

    def build(out: Path) -> None:
        scene = Scene.from_h5(scene_file, for_selection=True)
        facts.update(
            models=scene.models.cluster.size, photographs=scene.cameras.photo.size,
            observations=scene.visibility.point.size, largest=int(scene.models.num_photos.max()),
        )  # fmt: skip
        with open_artifact(scene_file, "scene") as file:
            pixels = file.dataset("visibility/xy_px")
            stages.select_training_set(scene, None, options, out, pixels=pixels, inputs=[])

    ref = store.produce(stages.STAGE, options, [content_sha256(scene_file)], build)
    seconds = time.monotonic() - started
    with open_file(store.path(ref)) as file:
        queries, candidates = len(file["queries/image"]), len(file["candidates/image"])
    status = Path("/proc/self/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0]) * 1024
    return {**facts, "seconds": seconds, "peak_bytes": peak, "queries": queries, "candidates": candidates}


def holds(rows: list[Row]) -> bool:
    """Whether the bars hold."""
    good = all(
        row.seconds <= MOST_SECONDS and row.peak_bytes <= MOST_BYTES and row.observations >= OBSERVATIONS
        for row in rows
        if row.share >= 1
    )
    return good and all(
        after.per_million <= MOST_GROWTH * before.per_million for before, after in itertools.pairwise(rows)
    )


def table(rows: list[Row]) -> Table:
    """A row per size."""
    result = Table(
        "share", "models", "photographs", "largest", "observations", "queries", "s", "GB", "growth"
    )
    for before, row in zip([None, *rows], rows, strict=False):
        growth = f"{row.per_million / before.per_million:.2f}" if before else ""
        result.add_row(
            f"{row.share:g}", f"{row.models:,}", f"{row.photographs:,}", f"{row.largest:,}",
            f"{row.observations:,}", f"{row.queries:,}", f"{row.seconds:.1f}", f"{row.peak_bytes / 1e9:.2f}",
            growth,
        )  # fmt: skip
    return result


if __name__ == "__main__":
    sys.exit(main())
