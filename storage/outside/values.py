"""JSON that comes from outside: what it says, or one line that names the place."""

from __future__ import annotations

import json
from typing import Any

from storage.outside.text import BadText

MOST_DEPTH = 64
"""Lists and mappings inside each other; what is written here has five at most."""
_MOST_BYTES = 16 << 20


def json_from(text: str | bytes, where: str) -> Any:
    """The value of JSON text. where: file and place in it, for errors.

    Raises BadText: no JSON, deeper than MOST_DEPTH, more than 16 MiB.
    """
    if len(text) > _MOST_BYTES:
        raise BadText(f"{where}: {len(text)} bytes of JSON; more than {_MOST_BYTES} are not read")
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise BadText(f"{where}: {too_deep('JSON')}") from error
    except (ValueError, UnicodeDecodeError) as error:
        raise BadText(f"{where}: is not JSON ({error})") from error
    if _depth(value) > MOST_DEPTH:
        raise BadText(f"{where}: {too_deep('JSON')}")
    return value


def too_deep(kind: str) -> str:
    """What an error says of a value that is nested deeper than MOST_DEPTH."""
    return f"its {kind} is nested more than {MOST_DEPTH} deep; no file of ours is, so it is not read"


def _depth(value: Any) -> int:
    """How many lists and mappings are inside each other, without recursion; stops above MOST_DEPTH."""
    depth, level = 0, [value]
    while level and depth <= MOST_DEPTH:
        inside = [each for each in level if isinstance(each, dict | list)]
        level = [part for each in inside for part in (each.values() if isinstance(each, dict) else each)]
        depth += bool(inside)
    return depth
