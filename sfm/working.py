"""Working copies: every photograph decoded, upright and size-limited, named by its content.

Later steps see only these. One chunk of photographs gives one folder with `<sha256>.jpg` for the good ones
and `photos.json` with one outcome for each, rejected ones with the reason.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from pydantic import Field

from sfm.decoding import PILLOW_PIXEL_LIMIT, Decoded, Rejected, Unsupported, decode
from sfm.outcomes import OUTCOMES, Outcome, read_outcomes
from storage.digests import canonical_json
from storage.options import Options
from storage.stages import Stage

logger = logging.getLogger(__name__)

STAGE = Stage(
    name="working",
    version=1,
    kind="directory",
    packages=("pillow", "pillow-heif", "numpy"),
    modules=("sfm.working", "sfm.decoding", "sfm.exif", "sfm.outcomes"),
)
__all__ = ["STAGE", "FileChanged", "WorkingOptions", "make_working_copies", "read_outcomes", "working_copy"]


class WorkingOptions(Options):
    """How a photograph becomes its working copy."""

    working_size: int = Field(640, ge=64, le=8192, description="longer side of a working copy at most, px")
    jpeg_quality: int = Field(95, ge=50, le=100, description="JPEG quality of working copies, 1..100")
    max_pixels: int = Field(
        PILLOW_PIXEL_LIMIT,
        ge=1,
        le=PILLOW_PIXEL_LIMIT,
        description="larger photographs are rejected unread, px",
    )


class FileChanged(ValueError):
    """A photograph whose bytes are not those that were scanned."""


def make_working_copies(
    photographs: Sequence[tuple[str, Path]], options: WorkingOptions, out: Path
) -> dict[str, str]:
    """Fill the folder `out` with the working copies and outcomes of a chunk of photographs.

    photographs: (sha256 of the bytes, where they lie). Returns sha256 -> digest of its outcome and working
    copy. Raises FileChanged when a file's bytes do not have the digest that it is listed under.
    """
    started = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    outcomes: dict[str, Outcome] = {}
    digests: dict[str, str] = {}
    for sha, path in sorted(set(photographs)):
        outcome, copy = working_copy(_read(sha, path), options)
        if copy:
            (out / f"{sha}.jpg").write_bytes(copy)
        outcomes[sha] = outcome
        row = canonical_json(outcome.as_row()).encode()
        digests[sha] = hashlib.sha256(row + hashlib.sha256(copy).digest()).hexdigest()
    rows = {sha: outcome.as_row() for sha, outcome in outcomes.items()}
    (out / OUTCOMES).write_text(json.dumps(rows, indent=1, sort_keys=True) + "\n")
    good = sum(outcome.status == "ok" for outcome in outcomes.values())
    logger.info(
        "%d working copies of %d photographs in %.1f s", good, len(outcomes), time.monotonic() - started
    )
    return digests


def working_copy(content: bytes, options: WorkingOptions) -> tuple[Outcome, bytes]:
    """A file's bytes -> its outcome and the working copy as JPEG, empty where there is none.

    An upright JPEG within the limit is its own working copy, byte for byte.
    """
    try:
        decoded = decode(content, options.working_size, options.max_pixels)
    except Rejected as why:
        return Outcome("rejected", str(why)), b""
    except Unsupported as why:
        return Outcome("unsupported", str(why)), b""
    return _good(decoded), content if decoded.as_stored else _jpeg(decoded.picture, options.jpeg_quality)


def _read(sha: str, path: Path) -> bytes:
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha:
        raise FileChanged(f"{path}: its bytes changed since the folder was scanned; run again")
    return content


def _good(decoded: Decoded) -> Outcome:
    latitude, longitude, altitude = decoded.position or (None, None, math.nan)
    return Outcome(
        status="ok",
        reason=decoded.note,
        width=decoded.width,
        height=decoded.height,
        orientation=decoded.orientation,
        working_width=decoded.picture.width,
        working_height=decoded.picture.height,
        focal_prior_px=0.0 if math.isnan(decoded.focal_prior_px) else decoded.focal_prior_px,
        latitude_deg=latitude,
        longitude_deg=longitude,
        altitude_m=None if math.isnan(altitude) else altitude,
    )


def _jpeg(picture: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=quality)
    return buffer.getvalue()
