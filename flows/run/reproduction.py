"""The command that makes a run again."""

import json
import shlex
from typing import Any

from flows.options.loading import load
from flows.options.stages import STAGES, TABLE
from storage.store.ledger import RunRecord
from storage.store.store import Store


def command_of(store: Store, record: RunRecord) -> str:
    """`retrieval-sfm run` with every option that is not the default; shell-quoted, one part a line.

    Options of older code that are no longer known are left out.
    """
    default, _ = load(None, ())
    usual, mine = _flat(default.model_dump(mode="json")), _flat(record.options)
    changed = {key: value for key, value in mine.items() if key in usual and usual[key] != value}
    photos = str(record.resources.get("photos") or "PHOTOS")
    parts = [f"retrieval-sfm run {shlex.quote(photos)} --store {shlex.quote(str(store.root))}"]
    parts += [f"--set {shlex.quote(f'{key}={_written(value)}')}" for key, value in changed.items()]
    made = [stage.name for stage in TABLE if any(map(record.refs_of, stage.makes))]
    if made and made[-1] != STAGES[-1]:
        parts.append(f"--until {made[-1]}")
    return " \\\n  ".join(parts)


def _written(value: Any) -> str:
    """A value that `--set` reads back: plain text as it stands, where that is not read as something else."""
    if isinstance(value, str):
        try:
            json.loads(value)
        except ValueError:
            return value
    return json.dumps(value)


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """{"a.b": 3} of {"a": {"b": 3}}; lists stay whole."""
    if not isinstance(value, dict):
        return {name: value}
    return {k: v for key, each in value.items() for k, v in _flat(each, f"{name}.{key}".strip(".")).items()}
