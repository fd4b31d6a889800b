"""What a sweep is: a base, grids of options, the columns of its table; all checked before anything runs.

base: {config: paper_vgg16.yaml, set: [training.epochs=10]}
grids:
  - training.positives: [m1, m2, m3]
  - {training.loss: triplet, training.margin: [0.1, 0.5]}
columns: [fine-tuned lw single]
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from flows.options.loading import default_config, load
from flows.options.names import NETWORKS
from flows.options.overrides import InvalidOption, from_mapping, load_config, value_of, with_values
from flows.options.pipeline import PipelineOptions, PipelineResources, sections_of
from flows.options.stages import up_to
from report.tables.evaluation import WHITENINGS
from storage.keys.options import canonical_options

SCALES = ("single", "multi")


class InvalidSweep(ValueError):
    """A sweep that cannot be run as it is written."""


class Base(BaseModel):
    """Where every combination starts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    config: Path | None = Field(
        None, description="configuration, beside this file or one that comes along; none: default.yaml"
    )
    set: tuple[str, ...] = Field((), description="key=value, as on the command line")


class SweepFile(BaseModel):
    """The content of a sweep's file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    photos: Path | None = Field(None, description="folder of the photographs, relative to this file")
    base: Base = Field(Base(), description="options of every combination")
    grids: Annotated[list[dict[str, Any]], Field(min_length=1)] = Field(
        description="each: option -> list of values, or one value; all combinations of one grid, the grids "
        "one after another"
    )
    columns: Annotated[list[str], Field(min_length=1)] = Field(
        ["fine-tuned lw single"],
        description="rows of the evaluation that become columns: network, whitening, scales",
    )


@dataclass(frozen=True)
class Column:
    """A configuration of the evaluation whose mAP is shown under every protocol; scales: single or multi."""

    network: str
    whitening: str
    scales: str

    def __str__(self) -> str:
        return f"{self.network} {WHITENINGS[self.whitening]} {self.scales}"


@dataclass(frozen=True)
class Combination:
    """One run of a sweep. values: of the options that differ between combinations, as in the file."""

    number: int
    values: Mapping[str, Any]
    options: PipelineOptions

    @property
    def label(self) -> str:
        """Its values in words."""
        names = short_names(tuple(self.values))
        return ", ".join(f"{names[key]} {text_of(value)}" for key, value in self.values.items())

    def prefix(self, stage: str) -> str:
        """Equal for combinations whose results of this stage are the same."""
        sections = [name for each in up_to(stage) for name in sections_of(each)]
        return json.dumps(self.options.model_dump(mode="json", include=set(sections)), sort_keys=True)


@dataclass(frozen=True)
class Sweep:
    """A sweep that was checked. keys: the options that differ between its combinations."""

    name: str
    photos: Path
    combinations: tuple[Combination, ...]
    resources: PipelineResources
    columns: tuple[Column, ...]
    keys: tuple[str, ...]


def read_sweep(path: Path, photos: Path | None = None, sets: Sequence[str] = ()) -> Sweep:
    """Read and check a sweep; nothing runs. photos and sets (more of `base.set`) come from the command line.

    Raises InvalidConfig, UnknownOption, InvalidOption, MissingContent, InvalidSweep: each names the place.
    """
    file = from_mapping(SweepFile, load_config(path), str(path))
    options, resources = load(_config(path, file.base.config), [*file.base.set, *sets])
    made = list(_distinct(_all(file.grids, options, str(path))))
    keys = [key for key in dict.fromkeys(key for grid in file.grids for key in grid)]
    keys = [key for key in keys if len({repr(value_of(each, key)) for each in made}) > 1]
    combinations = tuple(
        Combination(number, {key: value_of(each, key) for key in keys}, each)
        for number, each in enumerate(made, start=1)
    )
    columns = tuple(_column(text, str(path)) for text in file.columns)
    if any(column.scales == "multi" for column in columns):
        _check_scales(combinations, str(path))
    folder = _photos(path, photos, file.photos)
    return Sweep(path.stem, folder, combinations, resources, columns, tuple(keys))


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """Dotted keys -> their last name, the whole key where two of them end alike."""
    last = {key: key.rsplit(".", 1)[-1] for key in keys}
    return {key: name if list(last.values()).count(name) == 1 else key for key, name in last.items()}


def text_of(value: Any) -> str:
    """A value as it stands in a file, short."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _all(grids: Sequence[Mapping[str, Any]], base: PipelineOptions, where: str) -> Iterator[PipelineOptions]:
    """Every combination of every grid, its options checked."""
    for number, grid in enumerate(grids, start=1):
        place = f"{where}, grid {number}"
        lists = [value if isinstance(value, list) else [value] for value in grid.values()]
        for key, values in zip(grid, lists, strict=True):
            if not values:
                raise InvalidSweep(f"{place}: {key} has no values; give a list of at least one")
        for combined in product(*lists):
            chosen = dict(zip(grid, combined, strict=True))
            described = ", ".join(f"{key}={text_of(value)}" for key, value in chosen.items())
            made = with_values(base, chosen, f"{place} ({described})" if chosen else place)
            canonical_options(made, lambda path: str(path))  # files among the options are there
            _check_packages(made, f"{place} ({described})")
            yield made


def _distinct(options: Iterator[PipelineOptions]) -> Iterator[PipelineOptions]:
    """Each once: the base often stands in several grids."""
    seen = set()
    for each in options:
        text = each.model_dump_json()
        if text not in seen:
            seen.add(text)
            yield each


def _check_packages(options: PipelineOptions, where: str) -> None:
    """A backbone whose package is not installed is found now and not after hours."""
    from retrieval.networks.options import missing_package

    for network in (options.network, options.reconstruction.network):
        if why := missing_package(network.backbone):
            raise InvalidOption(f"{where}: {why}")


def _check_scales(combinations: Sequence[Combination], where: str) -> None:
    for each in combinations:
        if len(each.options.description.scale_sets()) == 1:
            raise InvalidSweep(
                f"{where}: a column asks for several scales, and description.multi_scales of combination "
                f"{each.number} ({each.label}) is a single one"
            )


def _column(text: str, where: str) -> Column:
    words = text.split()
    known = (tuple(NETWORKS), tuple(WHITENINGS), SCALES)
    if len(words) != 3 or any(word not in names for word, names in zip(words, known, strict=True)):
        raise InvalidSweep(
            f"{where}: column {text!r}: write network, whitening and scales, such as 'fine-tuned lw single'; "
            + ", ".join("|".join(names) for names in known)
        )
    return Column(*words)


def _config(path: Path, config: Path | None) -> Path | None:
    """A configuration beside the sweep's file, or of that name among those that come along."""
    if config is None:
        return None
    beside, ours = path.parent / config, default_config().parent / config
    return ours if not beside.exists() and ours.exists() else beside


def _photos(path: Path, asked: Path | None, written: Path | None) -> Path:
    if asked is None and written is None:
        raise InvalidSweep(f"{path}: no photographs; add `photos: DIR` to the file or --photos DIR")
    folder = asked if asked is not None else path.parent / str(written)
    if not folder.is_dir():
        raise InvalidSweep(f"{str(folder)!r} is no folder; give the folder of your photographs")
    return folder.absolute()
