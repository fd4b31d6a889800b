"""The embedded default: a small rendered town that the demo runs on, made once and recognised afterwards.

Beside the folder of photographs lie the truth (cameras and surface points, never an input of the flow) and a
small record of what was rendered.
"""

import logging
import shutil
from collections.abc import Callable
from importlib import resources as package_files
from pathlib import Path
from typing import Any

from storage.files.digests import file_sha256, json_sha256
from storage.files.whole import publish, read_json, write_json
from storage.keys.code import code_digest

logger = logging.getLogger(__name__)

CONFIG = Path(str(package_files.files("configs"))) / "demo.yaml"
TOWN: dict[str, Any] = {"seed": 0, "buildings": 12, "min_views": 10, "max_views": 14, "distractors": 20}
"""Options of the demo's town; enough buildings that every split can mine hard negatives."""


class FolderNotTown(ValueError):
    """The folder that the town is rendered into holds something else."""


def truth_file(photos: Path) -> Path:
    """Where the true cameras of the town in `photos` are."""
    return photos.absolute().with_name(f"{photos.absolute().name}-truth.h5")


def record_file(photos: Path) -> Path:
    """What was rendered into `photos`: which town, and the sha256 of each photograph."""
    return photos.absolute().with_name(f"{photos.absolute().name}-town.json")


def render(photos: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> bool:
    """The demo's town in the folder `photos`: rendered, or found there as it was rendered before (False).

    An outdated town is rendered again in its place. progress: told (photographs rendered, all).
    Raises FolderNotTown when other files are in the folder.
    """
    wanted = town_digest()
    record = read_json(record_file(photos)) or {}
    there = {path.name for path in photos.iterdir()} if photos.is_dir() else set()
    known: dict[str, str] = record.get("photographs", {})
    if others := sorted(there - set(known)):
        raise FolderNotTown(
            f"{str(photos)!r} holds {others[0]!r}, which is not of the demo's town; name another folder with "
            f"--photos, or run on this one: retrieval-sfm run {photos} --store DIR"
        )
    if record.get("town") == wanted and truth_file(photos).is_file() and _holds(photos, known):
        logger.info("the town is in %s already", photos)
        return False
    _render(photos, wanted, progress)
    return True


def town_digest() -> str:
    """sha256 of what the town depends on: its options and the code that renders it."""
    return json_sha256([TOWN, code_digest("town.town")])


def _holds(photos: Path, known: dict[str, str]) -> bool:
    return all((photos / name).is_file() and file_sha256(photos / name) == sha for name, sha in known.items())


def _render(photos: Path, town: str, progress: Callable[[int, int], None]) -> None:
    """Render beside the folder, then put it in place; if it is interrupted, the next one renders again."""
    from town.town import TownOptions, render_town

    target = photos.absolute()
    beside = target.with_name(f"{target.name}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    truth = render_town(beside, TownOptions(**TOWN), progress=progress)
    if target.exists():
        shutil.rmtree(target)
    truth.save(truth_file(target))
    digests = {path.name: file_sha256(path) for path in sorted(beside.iterdir())}
    write_json(record_file(target), {"town": town, "options": TOWN, "photographs": digests})
    publish(beside, target)
