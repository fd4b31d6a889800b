"""Cache keys: what a stage's result depends on, as plain values and as one digest."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib import metadata
from typing import Any

from pydantic import BaseModel

from storage.files.digests import json_sha256
from storage.hdf5.digests import cached_content_sha256
from storage.keys.code import code_digests
from storage.keys.options import canonical_options
from storage.keys.stages import Stage

FORMAT_VERSION = 1
CODE_PARTS = ("packages", "code")


class WrongInput(ValueError):
    """An input digest that is none."""


def key_parts(stage: Stage, options: BaseModel, inputs: Sequence[str]) -> dict[str, Any]:
    """Everything that the result of a stage depends on, as JSON values.

    inputs: content digests, in the order that the stage takes them. Raises MissingContent and UnusableOption
    for options, UnknownModule for a wrong declaration, WrongInput for an input that is not a text.
    """
    if isinstance(inputs, str) or not all(isinstance(digest, str) and digest for digest in inputs):
        raise WrongInput(f"inputs of stage {stage.name!r} must be content digests, got {inputs!r}")
    return {**_family_parts(stage, options), "inputs": list(inputs)}


def _family_parts(stage: Stage, options: BaseModel) -> dict[str, Any]:
    return {
        "format": FORMAT_VERSION,
        "stage": stage.name,
        "version": stage.version,
        "schema": [stage.schema_name, schema_version(stage.schema_name)],
        "artifact": [stage.kind, stage.suffix],
        "options": canonical_options(options, cached_content_sha256),
        "packages": package_versions(stage.packages),
        "code": code_digests(stage.code),
    }


def parts_key(parts: dict[str, Any]) -> str:
    """The key (64 hex) of key parts."""
    return json_sha256(parts)


def stage_key(stage: Stage, options: BaseModel, inputs: Sequence[str]) -> str:
    """The key (64 hex) under which a stage's result is stored. Errors: see ``key_parts``."""
    return parts_key(key_parts(stage, options, inputs))


def family_key(stage: Stage, options: BaseModel) -> str:
    """The key (64 hex) without inputs: artifacts of one family differ only in what they were made from."""
    return parts_family(_family_parts(stage, options))


def parts_family(parts: dict[str, Any]) -> str:
    """The family (64 hex) of key parts."""
    return json_sha256({name: part for name, part in parts.items() if name != "inputs"})


def parts_meaning(parts: dict[str, Any], *, inputs: bool = True) -> str:
    """Digest (64 hex) of key parts without code and package versions: what a code edit leaves the same.

    With ``inputs=False`` the meaning of a whole family.
    """
    left_out = CODE_PARTS if inputs else (*CODE_PARTS, "inputs")
    return json_sha256({name: part for name, part in parts.items() if name not in left_out})


def code_differences(old: dict[str, Any], new: dict[str, Any]) -> tuple[str, ...]:
    """What differs between two sets of key parts in code and package versions, one line each."""
    lines = []
    for name in sorted({*old["packages"], *new["packages"]}):
        before, after = old["packages"].get(name, "undeclared"), new["packages"].get(name, "undeclared")
        if before != after:
            lines.append(f"{name} {before} -> {after}")
    for name in sorted({*old["code"], *new["code"]}):
        if old["code"].get(name) != new["code"].get(name):
            verb = "new" if name not in old["code"] else "gone" if name not in new["code"] else "changed"
            lines.append(f"{name} {verb}")
    return tuple(lines)


def package_versions(packages: Sequence[str]) -> dict[str, str]:
    """Installed version by distribution name; "absent" for one that is not installed."""
    return {name: _package_version(name) for name in sorted(set(packages))}


@lru_cache(maxsize=512)
def _package_version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "absent"


@lru_cache(maxsize=64)
def schema_version(schema_name: str | None) -> int | None:
    """Version of a declared HDF5 layout, None where there is none. Raises UnknownSchema."""
    if schema_name is None:
        return None
    from storage.schemas.registry import layout

    return layout(schema_name).version
