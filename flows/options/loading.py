"""Options and resources as a person gives them: a YAML file, `--set`, an earlier run."""

from collections.abc import Sequence
from importlib import resources as package_files
from pathlib import Path
from typing import Any

from pydantic import Field

from flows.options.overrides import InvalidOption, apply_overrides, from_mapping, load_config
from flows.options.pipeline import PipelineOptions, PipelineResources, sections_of
from sfm.lists.select import read_list
from storage.store import ledger
from storage.store.store import Store


def check_list(options: PipelineOptions) -> None:
    """Raise what is wrong with the file of `selection.list`, before anything is made for it."""
    if options.selection.list is not None:
        read_list(options.selection.list)


class _Configuration(PipelineOptions):
    """A configuration file: the options, and the resources in a section of their own."""

    resources: PipelineResources = Field(PipelineResources(), description="what a run may use")


def default_config() -> Path:
    """configs/default.yaml, made for fewer than 10,000 photographs on a CPU."""
    return named_config("default")


def named_config(name: str) -> Path:
    """The file of a configuration in configs/."""
    return Path(str(package_files.files("configs"))) / f"{name}.yaml"


def load(config: Path | None, sets: Sequence[str]) -> tuple[PipelineOptions, PipelineResources]:
    """Options and resources of a YAML file (default: configs/default.yaml) with `key=value` overrides.

    Raises InvalidConfig, InvalidOption and UnknownOption, which names the nearest valid key.
    """
    path = config or default_config()
    whole = apply_overrides(from_mapping(_Configuration, load_config(path), str(path)), sets)
    return _split(whole)


def load_stage(
    stage: str, config: Path | None, sets: Sequence[str], *, store: Path | str, from_run: str
) -> tuple[PipelineOptions, PipelineResources]:
    """The options and resources of an earlier run with the stage's own sections changed.

    Raises UnknownRun, NoStore and what `load` raises; InvalidOption for a section that is not the stage's.
    """
    earlier = ledger.load(Store.open(store), from_run)
    mine = {*sections_of(stage), "resources"}
    values: dict[str, Any] = {**earlier.options, "resources": earlier.resources}
    if config is not None:
        values |= {name: value for name, value in load_config(config).items() if name in mine}
    for text in sets:
        section = text.split(".")[0].split("=")[0].strip()
        if section in _Configuration.model_fields and section not in mine:
            raise InvalidOption(
                f"--set {text}: {section!r} is not an option of {stage}; "
                f"it takes {', '.join(sorted(mine))}, the rest is that of run {earlier.id}"
            )
    return _split(apply_overrides(from_mapping(_Configuration, values, f"run {earlier.id}"), sets))


def _split(whole: _Configuration) -> tuple[PipelineOptions, PipelineResources]:
    values = {name: getattr(whole, name) for name in PipelineOptions.model_fields}
    return PipelineOptions(**values), whole.resources
