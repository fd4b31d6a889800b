"""Options from a YAML file and from `--set key=value`; an unknown key names the nearest valid one."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from storage.keys.options import UnknownOption, first_error
from storage.outside.text import BadText, read_text
from storage.outside.values import json_from
from storage.outside.yaml_files import yaml_from

Model = TypeVar("Model", bound=BaseModel)
_MOST_BYTES = 1 << 20


class InvalidOption(ValueError):
    """An option with a value that its model refuses, or text that is no `key=value`."""


class InvalidConfig(ValueError):
    """A configuration file that cannot be read as options."""


def option_keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    """All keys that `--set` takes, dotted, in the order of the models: `training.epochs`."""
    keys = []
    for name, field in model.model_fields.items():
        section = _section(field.annotation)
        keys += option_keys(section, f"{prefix}{name}.") if section else [prefix + name]
    return keys


def load_config(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises InvalidConfig with the place of the error."""
    try:
        content = yaml_from(read_text(path, fallback=False, most_bytes=_MOST_BYTES).content, str(path))
    except BadText as error:
        raise InvalidConfig(f"configuration {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InvalidConfig(f"configuration {path} holds a {type(content).__name__}, sections are expected")
    return content


def from_mapping(model: type[Model], values: Mapping[str, Any], where: str) -> Model:
    """A model from nested values, such as a file's. Raises UnknownOption and InvalidOption that name
    `where`."""
    known = option_keys(model)
    for key in _leaves(values, known):
        _check_key(key, known, where)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise InvalidOption(f"{where}: {first_error(error)}") from error


def apply_overrides(model: Model, sets: Sequence[str], *, where: str = "--set") -> Model:
    """A copy of `model` with every `key=value` of `sets` applied, the last one of a key winning.

    A value is JSON (`3`, `0.2`, `true`, `null`, `[1, 0.7]`), a YAML list (`[a, b]`), else text as it stands.
    Raises UnknownOption, InvalidOption.
    """
    known, wanted = option_keys(type(model)), dict[str, str]()
    for text in sets:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise InvalidOption(f"{where} {text!r}: write it as key=value, such as {known[0]}=...")
        _check_key(key.strip(), known, where)
        wanted.pop(key.strip(), None)
        wanted[key.strip()] = value.strip()
    while wanted:  # some are valid only after another one, in whatever order they were given
        failures: dict[str, InvalidOption] = {}
        for key, value in wanted.items():
            try:
                model = _with_value(model, key, value, where)
            except InvalidOption as error:
                failures[key] = error
        if len(failures) == len(wanted):
            raise next(iter(failures.values()))
        wanted = {key: wanted[key] for key in failures}
    return model


def nearest(key: str, known: Sequence[str]) -> str | None:
    """The valid key closest to a mistyped or incomplete one: the same last name in another section counts
    most, a mistyped section is a section."""
    sections = {k[:end] for k in known for end in range(len(k)) if k[end] == "."}
    if close := difflib.get_close_matches(key, sorted(sections), n=1, cutoff=0.8):
        return close[0]
    tails = [k for k in known if k.rsplit(".", 1)[-1] == key.rsplit(".", 1)[-1]]
    matches = difflib.get_close_matches(key, tails or known, n=1, cutoff=0.0 if tails else 0.5)
    if not matches:
        names = {k.rsplit(".", 1)[-1]: k for k in reversed(known)}
        matches = [
            names[name] for name in difflib.get_close_matches(key.rsplit(".", 1)[-1], names, n=1, cutoff=0.6)
        ]
    return matches[0] if matches else None


def _check_key(key: str, known: Sequence[str], where: str) -> None:
    if key in known:
        return
    below = [k for k in known if k.startswith(f"{key}.")]
    if below:
        raise UnknownOption(f"{where}: {key!r} is a section; set one of its options, such as {below[0]!r}")
    candidate = nearest(key, known)
    hint = f"; did you mean {candidate!r}?" if candidate else "; `--help` and configs/default.yaml list them"
    raise UnknownOption(f"{where}: there is no option {key!r}{hint}")


def with_values(model: Model, values: Mapping[str, Any], where: str) -> Model:
    """A copy of `model` with values by dotted key, all set before any is checked: some are valid only
    together. Raises UnknownOption, InvalidOption that name `where`."""
    known = option_keys(type(model))
    for key in values:
        _check_key(str(key), known, where)
    try:
        return _set(model, values)
    except ValidationError as error:
        raise InvalidOption(f"{where}: {first_error(error)}") from error


def value_of(model: BaseModel, key: str) -> Any:
    """The value behind a dotted key."""
    found: Any = model
    for name in key.split("."):
        found = getattr(found, name)
    return found


def _with_value(model: Model, key: str, text: str, where: str) -> Model:
    failure: ValidationError | None = None
    for value in _readings(text):
        try:
            return _set(model, {key: value})
        except ValidationError as error:
            failure = failure or error
    assert failure is not None
    raise InvalidOption(f"{where} {key}={text}: {first_error(failure)}") from failure


def _set(model: Model, changes: Mapping[str, Any]) -> Model:
    """Raises pydantic's ValidationError."""
    values = model.model_dump()
    for key, value in changes.items():
        *sections, name = key.split(".")
        target = values
        for section in sections:
            target[section] = dict(target.get(section) or {})
            target = target[section]
        target[name] = value
    return type(model).model_validate(values)


def _readings(text: str) -> Iterator[Any]:
    """What a value may mean, most likely first."""
    try:
        yield json_from(text, "value")
    except BadText:
        if text[:1] in ("[", "{"):
            with suppress(BadText):
                yield yaml_from(text, "value")
    yield text


def _leaves(values: Mapping[str, Any], known: Sequence[str], prefix: str = "") -> Iterator[str]:
    """Dotted keys of nested values; a mapping that is itself the value of a known key is not entered."""
    for name, value in values.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and key not in known:
            if not any(k.startswith(f"{key}.") for k in known):
                yield key
            yield from _leaves(value, known, f"{key}.")
        else:
            yield key


def _section(annotation: Any) -> type[BaseModel] | None:
    """The options model that a field holds, also where it may be None."""
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None
