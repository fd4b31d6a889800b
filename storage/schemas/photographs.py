"""The photographs of a collection: `scan`, what is there; `catalogue`, what can be used."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from storage.schemas.layout import Dataset, Layout
from storage.schemas.rules import Columns, first
from storage.schemas.table import Floats, Ints, Table, Texts, column

PHOTO_STATUS = ("ok", "duplicate", "rejected", "unsupported")
SHA = "sha256 of the file's bytes, hexadecimal"
LEFT_OUT = "JSON: how many files were no photographs, by ending or reason; there where some were"
_EXIF = "of the EXIF data; nan = unknown"
NAME = "path below the root of the photographs, with forward slashes"


@dataclass(frozen=True, eq=False)
class Photographs(Table, rows="N"):
    """Every image file found [N], rejected ones too, in the catalogue's order. -1 = none."""

    name: Texts = column("str", NAME, unique=True)
    sha256: NDArray[np.bytes_] = column("S64", f"{SHA}; empty where it was not read", none=True)
    width: Ints = column("int64", "width as stored, before the EXIF rotation; 0 = unknown", "px", minimum=0)
    height: Ints = column("int64", "height as stored; 0 = unknown", "px", minimum=0)
    orientation: Ints = column("int64", "EXIF orientation, 1 = upright", values=(1, 2, 3, 4, 5, 6, 7, 8))
    working_width: Ints = column("int64", "width of the upright working copy; 0 = none", "px", minimum=0)
    working_height: Ints = column("int64", "height of the working copy; 0 = none", "px", minimum=0)
    status: Texts = column("str", "what became of the file", values=PHOTO_STATUS)
    reason: Texts = column("str", "why it is not ok, with the remedy; empty where it is")
    alias_of: Ints = column(
        "int64",
        "the photograph of the same bytes or picture that stands for it; -1 = itself",
        index="N",
        none=True,
    )
    focal_prior_px: Floats = column(
        "float64", "focal length of the EXIF data on the working copy's grid; nan = unknown", "px", nan=True
    )


@dataclass(frozen=True, eq=False)
class Positions(Table, rows="N"):
    """Where photographs were taken; there for collections that have a GPS position at all."""

    latitude_deg: Floats = column(
        "float64", f"GPS latitude, north positive, {_EXIF}", "degrees", minimum=-90, maximum=90, nan=True
    )
    longitude_deg: Floats = column(
        "float64", f"GPS longitude, east positive, {_EXIF}", "degrees", minimum=-180, maximum=180, nan=True
    )
    altitude_m: Floats = column("float64", f"GPS altitude above the sea, {_EXIF}", "m", nan=True)


def reasons(columns: Columns) -> Iterator[tuple[str, str]]:
    """A photograph that is not ok has a reason."""
    status = columns["photos/status"]
    at = first((status != "ok") & (columns["photos/reason"] == ""))
    if at is not None:
        yield "photos/reason", f"is empty at [{at}], but photos/status says {status[at]!r} there"


def aliases(columns: Columns) -> Iterator[tuple[str, str]]:
    """A photograph that is ok stands for duplicates and for itself; "the same bytes" are the same."""
    alias, sha, status = columns["photos/alias_of"], columns["photos/sha256"], columns["photos/status"]
    claimed = np.array(["same bytes" in str(reason) for reason in columns["photos/reason"]], dtype=bool)
    wrong = (alias[alias] >= 0) | (status[alias] != "ok") | (claimed & (sha[alias] != sha))
    at = first((alias >= 0) & wrong)
    if at is not None:
        yield (
            "photos/alias_of",
            f"has {alias[at]} at [{at}], a photograph of other bytes, not ok or itself an alias; make the "
            "catalogue again",
        )


SCAN = Layout(
    name="scan",
    version=1,
    description="The image files below a folder and the digests of their contents.",
    groups={"photos": "one row per image file"},
    attributes={"left_out": LEFT_OUT},
    datasets=(
        Dataset("photos/name", ("N",), "str", NAME, unique=True),
        Dataset("photos/sha256", ("N",), "S64", f"{SHA}; empty where it was not read", none=True),
        Dataset("photos/bytes", ("N",), "int64", "size of the file", "bytes", minimum=0),
        Dataset("photos/status", ("N",), "str", "whether the file can be read at all", values=PHOTO_STATUS),
        Dataset("photos/reason", ("N",), "str", "why it is not ok, with the remedy; empty where it is"),
    ),
    rules=(reasons,),
)


CATALOGUE = Layout(
    name="catalogue",
    version=1,
    description="Every image file found and whether it can be used, rejected ones with the reason.",
    groups={"photos": "one row per image file"},
    datasets=(*Photographs.datasets("photos"), *Positions.datasets("photos", optional=True)),
    rules=(
        reasons,
        aliases,
    ),
)


LAYOUTS = (SCAN, CATALOGUE)
