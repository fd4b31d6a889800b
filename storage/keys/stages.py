"""What a stage is, as data: the part of a cache key that the options and the inputs do not carry."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

RESERVED_NAMES = frozenset({"index", "locks", "prefect", "runs", "scans", "sweeps", "verified", "work"})
_NAME = re.compile(r"[a-z][a-z0-9_-]*")


def is_stage_name(name: str) -> bool:
    """Whether a stage may have this name, which is that of its folder in the store."""
    return _NAME.fullmatch(name) is not None and name not in RESERVED_NAMES


class Stage(BaseModel):
    """The identity of one step, declared as ``STAGE`` in the step's module.

    ``name`` is the folder in the store. Names of the store's own folders are refused with a ValueError.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="folder of the stage's artifacts in the store")
    version: int = Field(1, ge=1, description="raised when the meaning of the result changes")
    schema_name: str | None = Field(None, description="layout in storage.schemas, None for other formats")
    kind: Literal["file", "directory"] = "file"
    suffix: str = Field("", description="file name ending with its dot, empty for a directory")
    packages: tuple[str, ...] = Field((), description="third-party distributions whose versions matter")
    code: str = Field(
        "", description="the module whose source matters, with all that it imports of ours; empty: none"
    )

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if not is_stage_name(name):
            raise ValueError(
                f"stage name {name!r}: use lower-case letters, digits, '-' and '_', "
                f"and none of {sorted(RESERVED_NAMES)}"
            )
        return name

    @field_validator("packages")
    @classmethod
    def _sort(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted(set(names)))

    @model_validator(mode="after")
    def _check_suffix(self) -> Stage:
        if self.kind == "directory" and self.suffix:
            raise ValueError(f"stage {self.name!r}: a directory artifact has no suffix, got {self.suffix!r}")
        if self.suffix and not re.fullmatch(r"(\.[A-Za-z0-9]+)+", self.suffix):
            raise ValueError(f"stage {self.name!r}: suffix {self.suffix!r} is not like '.h5'")
        if self.schema_name is not None and self.kind != "file":
            raise ValueError(f"stage {self.name!r}: an HDF5 layout needs kind 'file'")
        return self
