"""Two small stages for the tests: numbers are made, then added; how often each was computed is counted."""

import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from prefect import flow
from pydantic import Field

from storage.keys.artifacts import ArtifactRef
from storage.keys.options import Options, Resources
from storage.keys.stages import Stage
from tasks.engine.caching import artifact_path, stage_task
from tasks.engine.chunks import Known
from tasks.engine.runtime import fan_out

PAUSE_S = 0.01
COMPUTED: Counter[str] = Counter()
NUMBER = Stage(name="number", version=1, kind="file", suffix=".txt")
TOTAL = Stage(name="total", version=1, kind="file", suffix=".txt")
FOLDER = Stage(name="folder", version=1, kind="directory")


class NumberOptions(Options):
    factor: int = Field(1, description="what the number is multiplied by")


class TotalOptions(Options):
    offset: int = 0


class Workers(Resources):
    workers: int = 2
    photo_root: str = "/photos"


def known(value: str) -> Known:
    """A number that is in the key as it is."""
    return Known(value, [value])


@stage_task(NUMBER)
def number(out: Path, options: NumberOptions, start: Known, resources: Workers | None = None) -> None:
    COMPUTED[f"number {start.value}"] += 1
    time.sleep(PAUSE_S if start.value != "0" else 0.01)
    out.write_text(str(int(start.value) * options.factor))


@stage_task(TOTAL)
def total(
    out: Path, options: TotalOptions, numbers: list[ArtifactRef], resources: Workers | None = None
) -> Mapping[str, dict[str, int]]:
    COMPUTED["total"] += 1
    out.write_text(str(options.offset + sum(int(artifact_path(ref).read_text()) for ref in numbers)))
    return {"sidecar": {"numbers": len(numbers)}}


@stage_task(FOLDER)
def folder(out: Path, options: TotalOptions, first: ArtifactRef) -> None:
    COMPUTED["folder"] += 1
    (out / "a.txt").write_text(artifact_path(first).read_text())
    (out / "b.bin").write_bytes(b"\x00\x01")


@flow(persist_result=False)
def add(
    store: str,
    count: int = 3,
    number_options: NumberOptions = NumberOptions(),  # noqa: B008
    total_options: TotalOptions = TotalOptions(),  # noqa: B008
    resources: Workers = Workers(),  # noqa: B008
) -> ArtifactRef:
    calls = [{"start": known(str(i))} for i in range(count)]
    numbers = fan_out(
        number, calls, workers=resources.workers, store=store, options=number_options, resources=resources
    )
    folder(store=store, options=total_options, first=numbers[0])
    return total(store=store, options=total_options, numbers=numbers, resources=resources)
