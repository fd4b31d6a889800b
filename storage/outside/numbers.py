"""Numbers as people's programs write them: which sign is the decimal one, and what cannot be told.

`48.8583` and, between columns that are parted by semicolons or tabs, `48,8583`; one of the two in a whole
file. Thousands are never parted: `500,001` in such a file may be either, an error unless another number
of the file, or the limits of its column, decide.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from storage.outside.text import BadText

Limits = tuple[float, float]
ANY: Limits = (-math.inf, math.inf)
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:[.,][0-9]*)?|[.,][0-9]+)(?:[eE][+-]?[0-9]{1,4})?")
_GROUPED = re.compile(r"[+-]?[1-9][0-9]{0,2}[.,][0-9]{3}")
_REMEDY = "write numbers with a decimal point and without thousand separators"


class Written(NamedTuple):
    """A field that is to be a number, and where it stands."""

    text: str
    path: Path
    line: int
    column: str

    def says(self) -> str:
        return f"{self.path}, line {self.line}: {self.column} is {self.text!r}"


def number_of(text: str, decimal: str) -> float:
    """The number, nan where the text is none, is not finite or has another decimal sign."""
    other = "." if decimal == "," else ","
    if other in text or not _NUMBER.fullmatch(text):
        return math.nan
    found = float(text.replace(",", "."))
    return found if math.isfinite(found) else math.nan


def decimal_sign(fields: Iterable[Written], separator: str, limits: Mapping[str, Limits]) -> str:
    """The decimal sign of a file's numbers. Raises BadText: two signs, or thousands that may be parted."""
    sure: dict[str, Written] = {}
    doubtful: dict[str, Written] = {}
    for each in fields:
        sign = "," if "," in each.text else "." if "." in each.text else ""
        if not sign or not _NUMBER.fullmatch(each.text):
            continue
        if separator == ",":
            if sign == ",":
                raise BadText(f"{each.says()}, in a file that is parted by commas; {_REMEDY}")
            continue
        known = doubtful if _GROUPED.fullmatch(each.text) and _fits(each, limits) else sure
        known.setdefault(sign, each)
    return _decided(sure, doubtful)


def _fits(each: Written, limits: Mapping[str, Limits]) -> bool:
    """Whether the field could be a number with parted thousands."""
    least, most = limits[each.column]
    return least <= float(re.sub("[.,]", "", each.text)) <= most


def _decided(sure: Mapping[str, Written], doubtful: Mapping[str, Written]) -> str:
    signs = {**doubtful, **sure}
    if len(signs) == 2:
        one, other = signs[","], signs["."]
        raise BadText(
            f"{one.says()}, but {other.text!r} in line {other.line}: these are two decimal signs; {_REMEDY}"
        )
    if doubtful and not sure:
        (each,) = doubtful.values()
        plain = re.sub("[.,]", "", each.text)
        raise BadText(
            f"{each.says()}, which may be {each.text.replace(',', '.')} or {plain}, and nothing in the file "
            f"decides; {_REMEDY}, or part the columns by commas"
        )
    return next(iter(signs), ".")
