"""INRIA Holidays: each query ignores itself, average precision by trapezoids (official `holidays_map.py`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

import numpy as np

from retrieval.benchmarks.landmarks import average_precision
from storage.outside.text import BadText, read_text


class InvalidHolidays(ValueError):
    """Names or lists that are not of Holidays, or missing files."""


@dataclass(frozen=True)
class HolidaysResult:
    """mAP over the queries given, 0..1; nan marks a query without positives, which is left out."""

    mean_average_precision: float
    average_precisions: Mapping[str, float]


def evaluate_holidays(
    results: Mapping[str, Sequence[str]], images: Iterable[str] | None = None
) -> HolidaysResult:
    """Score {query name: [names best first]}.

    Names are numbers with or without a folder and an ending: images of one hundred show one scene, the one
    divisible by 100 is the query. images: all names of the collection; without it every image must stand in
    at least one list (lists of the whole collection do that, truncated ones need `images`). The query is
    ignored in its own list: ranks after it move up by one. A name listed twice counts twice, as officially.
    Raises InvalidHolidays.
    """
    number_of = cache(_number)  # a name stands in many lists
    listed = {query: [number_of(name) for name in names] for query, names in results.items()}
    known = {number_of(name) for name in images} if images is not None else set().union(*listed.values())
    scenes: dict[int, set[int]] = {}
    for number in known:
        scenes.setdefault(number // 100, set()).add(number)
    values: dict[str, float] = {}
    for query, numbers in listed.items():
        own = _number(query)
        if own % 100:
            raise InvalidHolidays(f"'{query}' is no query of Holidays; queries are divisible by 100")
        positives = scenes.get(own // 100, set()) - {own}
        ranks, shift = [], 0
        for rank, number in enumerate(numbers):
            if number == own:
                shift = -1
            elif number in positives:
                ranks.append(rank + shift)
        values[query] = average_precision(ranks, len(positives)) if positives else float("nan")
    counted = [value for value in values.values() if not np.isnan(value)]
    return HolidaysResult(float(np.mean(counted)) if counted else float("nan"), values)


def read_image_list(path: Path) -> list[str]:
    """The names in the official `holidays_images.dat`, or of the `jpg` folder. Raises InvalidHolidays."""
    if path.is_dir():
        folder = path / "jpg" if (path / "jpg").is_dir() else path
        names = sorted(file.name for file in folder.glob("*.jpg"))
    elif path.is_file():
        try:
            names = [line for _, line in read_text(path).filled_lines()]
        except BadText as error:
            raise InvalidHolidays(str(error)) from error
    else:
        names = []
    if not names:
        raise InvalidHolidays(
            f"no Holidays images at '{path}'; expected holidays_images.dat or jpg/NNNNNN.jpg"
        )
    return names


def queries_of(images: Iterable[str]) -> list[str]:
    """The names of the queries among the images: numbers divisible by 100."""
    return [name for name in images if _number(name) % 100 == 0]


def _number(name: str) -> int:
    stem = PurePosixPath(name).stem
    if not stem.isdecimal():
        raise InvalidHolidays(f"'{name}' is no image of Holidays; names are numbers such as 100001.jpg")
    return int(stem)
