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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from pydantic import Field, model_validator

from sfm.photographs.outcome import OUTCOMES, Outcome
from storage.files.digests import canonical_json, json_sha256
from storage.keys.options import Options, Resources
from storage.keys.stages import Stage
from storage.pictures.decoding import (
    CEILING_MEGAPIXELS,
    MOST_MEGAPIXELS,
    Decoded,
    Rejected,
    TooLarge,
    Unsupported,
    check_usable,
    decode,
    turned,
)

logger = logging.getLogger(__name__)

STAGE = Stage(
    name="working",
    version=1,
    kind="directory",
    packages=("pillow", "pillow-heif", "numpy"),
    code=__name__,
)
_EARLIER_MAX_PIXELS = 178_956_970  # an option that every run before had in its record


class WorkingOptions(Options):
    """How a photograph becomes its working copy."""

    working_size: int = Field(640, ge=64, le=8192, description="longer side of a working copy at most, px")
    jpeg_quality: int = Field(95, ge=50, le=100, description="JPEG quality of working copies, 1..100")

    @model_validator(mode="before")
    @classmethod
    def _of_an_earlier_run(cls, values: Any) -> Any:
        """The record of a run from before the limit was a resource can still be read."""
        if isinstance(values, Mapping) and values.get("max_pixels") == _EARLIER_MAX_PIXELS:
            return {name: value for name, value in values.items() if name != "max_pixels"}
        return values


class WorkingResources(Resources):
    """What decoding may use. A photograph that was rejected for a limit is tried again under another one."""

    max_megapixels: float = Field(
        MOST_MEGAPIXELS,
        gt=0,
        le=CEILING_MEGAPIXELS,
        description="larger photographs are rejected by their header, a million px",
    )


class FileChanged(ValueError):
    """A photograph whose bytes are not those that were scanned."""


def make_working_copies(
    photographs: Sequence[tuple[str, Path]],
    options: WorkingOptions,
    out: Path,
    resources: WorkingResources | None = None,
) -> dict[str, str]:
    """Fill the folder `out` with the working copies and outcomes of a chunk of photographs.

    photographs: (sha256 of the bytes, where they lie). Returns sha256 -> digest of its outcome and working
    copy. Raises FileChanged when a file's bytes do not have the digest that it is listed under.
    """
    started = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    rows: dict[str, dict[str, Any]] = {}
    digests: dict[str, str] = {}
    for sha, path in sorted(set(photographs)):
        outcome, copy = working_copy(_read(sha, path), options, resources)
        if copy:
            (out / f"{sha}.jpg").write_bytes(copy)
        rows[sha] = outcome.as_row()
        row = canonical_json(rows[sha]).encode()
        digests[sha] = hashlib.sha256(row + hashlib.sha256(copy).digest()).hexdigest()
    (out / OUTCOMES).write_text(json.dumps(rows, indent=1, sort_keys=True) + "\n")
    good = sum(row["status"] == "ok" for row in rows.values())
    logger.info("%d working copies of %d photographs in %.1f s", good, len(rows), time.monotonic() - started)
    return digests


def input_under_limit(sha: str, resources: WorkingResources) -> str:
    """What the outcome of a photograph is made from that another limit once rejected: this limit too."""
    return json_sha256(["under limit", sha, resources.max_megapixels])


def working_copy(
    content: bytes, options: WorkingOptions, resources: WorkingResources | None = None
) -> tuple[Outcome, bytes]:
    """A file's bytes -> its outcome and the working copy as JPEG, empty where there is none.

    An upright JPEG within the limit is its own working copy, byte for byte.
    """
    size, limit = options.working_size, (resources or WorkingResources()).max_megapixels
    try:
        decoded = decode(content, halved_to=2 * size, max_megapixels=limit)
        check_usable(decoded)
    except TooLarge as why:
        return Outcome("rejected", str(why), limit_megapixels=limit), b""
    except Rejected as why:
        return Outcome("rejected", str(why)), b""
    except Unsupported as why:
        return Outcome("unsupported", str(why)), b""
    picture = turned(_limited(decoded, size), decoded.turn)
    kept = decoded.as_stored and max(decoded.size) <= size
    return _good(decoded, picture), content if kept else _jpeg(picture, options.jpeg_quality)


def _limited(decoded: Decoded, longer_side: int) -> Image.Image:
    """The pixels of limited size, never enlarged, not yet turned."""
    scale = min(1.0, longer_side / max(decoded.size))
    width, height = (max(1, round(side * scale)) for side in decoded.size)
    if (width, height) == decoded.pixels.size:
        return decoded.pixels
    return decoded.pixels.resize((width, height), Image.Resampling.LANCZOS)


def _read(sha: str, path: Path) -> bytes:
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha:
        raise FileChanged(f"{path}: its bytes changed since the folder was scanned; run again")
    return content


def _good(decoded: Decoded, picture: Image.Image) -> Outcome:
    latitude, longitude, altitude = decoded.position or (None, None, math.nan)
    focal = decoded.focal_px * (max(picture.size) / max(decoded.size))
    return Outcome(
        status="ok",
        reason=decoded.note,
        width=decoded.width,
        height=decoded.height,
        orientation=decoded.orientation,
        working_width=picture.width,
        working_height=picture.height,
        focal_prior_px=0.0 if math.isnan(focal) else focal,
        latitude_deg=latitude,
        longitude_deg=longitude,
        altitude_m=None if math.isnan(altitude) else altitude,
    )


def _jpeg(picture: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=quality)
    return buffer.getvalue()
