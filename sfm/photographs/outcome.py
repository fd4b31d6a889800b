"""What became of each photograph when its working copy was made, as the chunk folders keep it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

OUTCOMES = "photos.json"


@dataclass(frozen=True)
class Outcome:
    """What became of one photograph; sizes and focal prior in px, 0 = unknown; orientation as in EXIF;
    GPS position in degrees and m above the sea, None = unknown. limit_megapixels: the limit that it was
    rejected for, None = for another reason or not at all."""

    status: Literal["ok", "rejected", "unsupported"]
    reason: str = ""
    width: int = 0
    height: int = 0
    orientation: int = 1
    working_width: int = 0
    working_height: int = 0
    focal_prior_px: float = 0.0
    latitude_deg: float | None = None
    longitude_deg: float | None = None
    altitude_m: float | None = None
    limit_megapixels: float | None = None

    @property
    def upright(self) -> tuple[int, int]:
        """Width and height of the photograph turned as EXIF asks."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)

    def as_row(self) -> dict[str, Any]:
        """The outcome as JSON values, what is unknown left out."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def read_outcomes(folders: Iterable[Path]) -> dict[str, Outcome]:
    """The outcomes of several chunks by photograph sha256."""
    found: dict[str, Outcome] = {}
    for folder in folders:
        rows = json.loads((folder / OUTCOMES).read_text())
        found |= {sha: Outcome(**row) for sha, row in rows.items()}
    return found
