"""Base classes of every stage's options and resources, and the path whose content counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from enum import Enum
from pathlib import Path, PosixPath
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, model_validator

from storage.files.words import nearest_name


class UnknownOption(ValueError):
    """A key that no option has."""


class UnusableOption(ValueError):
    """An option whose value cannot enter a cache key."""


class MissingContent(ValueError):
    """A path among the options behind which there is nothing."""


class MarkedPath(PosixPath):
    """A path whose content, not its name, enters the cache key."""


def _mark(path: Path) -> Path:
    return MarkedPath(path)


ContentPath = Annotated[Path, AfterValidator(_mark)]


def unknown_key_text(name: str, known: Iterable[str], where: str) -> str:
    """One sentence that names the unknown key, the nearest valid one and the valid ones."""
    known = sorted(known)
    nearest = nearest_name(name, known)
    hint = f"did you mean {nearest!r}? " if nearest else ""
    return f"{where} has no option {name!r}; {hint}valid: {', '.join(known) or 'none'}"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _name_unknown_keys(cls, values: Any) -> Any:
        if isinstance(values, Mapping):
            known = set(cls.model_fields) | {f.alias for f in cls.model_fields.values() if f.alias}
            for key in values:
                if key not in known:
                    raise UnknownOption(unknown_key_text(str(key), known, cls.__name__))
        return values


class Options(_Strict):
    """Base of every stage's options: what changes the result, hence the cache key."""


class Resources(_Strict):
    """Base of every stage's resources: what may change the time, never the result, never the key."""


def first_error(error: ValidationError) -> str:
    """The first problem of a pydantic error as ``where: what``, for one line on a terminal."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    what = first["msg"].removeprefix("Value error, ")
    return f"{where}: {what}" if where else what


def canonical_options(options: BaseModel, content_digest: Callable[[Path], str]) -> dict[str, Any]:
    """Options as plain JSON values: equal meaning gives equal values.

    Content paths become ``{"content_sha256": ...}``; sets are sorted; tuples become lists; None stays.
    Raises MissingContent for a content path that does not exist, UnusableOption for a plain path or
    another value without a stable form.
    """
    return {
        name: _canonical(getattr(options, name), f"{type(options).__name__}.{name}", content_digest)
        for name in sorted(type(options).model_fields)
    }


def _canonical(value: Any, where: str, digest: Callable[[Path], str]) -> Any:
    if isinstance(value, BaseModel):
        return canonical_options(value, digest)
    if isinstance(value, Enum):
        return _canonical(value.value, where, digest)
    if isinstance(value, Path):
        return _canonical_path(value, where, digest)
    if isinstance(value, Mapping):
        return {str(key): _canonical(value[key], f"{where}.{key}", digest) for key in sorted(value, key=str)}
    if isinstance(value, list | tuple):
        return [_canonical(item, f"{where}[{i}]", digest) for i, item in enumerate(value)]
    if isinstance(value, set | frozenset):
        return sorted((_canonical(item, where, digest) for item in value), key=repr)
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, float):
        return value + 0.0  # -0.0 and 0.0 are one value
    if value is None or isinstance(value, bool | int | str):
        return value
    raise UnusableOption(f"{where}: a {type(value).__name__} has no stable form; use numbers, text or models")


def _canonical_path(path: Path, where: str, digest: Callable[[Path], str]) -> dict[str, str]:
    if not isinstance(path, MarkedPath):
        raise UnusableOption(
            f"{where}: the plain path {str(path)!r} cannot enter a key; declare it ContentPath, "
            "or move it to the resources if it does not change the result"
        )
    if not path.exists():
        raise MissingContent(f"{where}: {str(path)!r} does not exist; give an existing file or folder")
    return {"content_sha256": digest(path)}
