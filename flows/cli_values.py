"""Values of the command line that are more than one number or word."""

from typing import Any

from storage.outside_text import BadText
from storage.outside_values import json_from


def numbers(text: str, option: str, example: str = "1,0.7071,0.5") -> tuple[float, ...]:
    """'1,0.5' -> (1.0, 0.5). Raises ValueError."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{option} {text!r}: give numbers with commas, such as {example}") from None


def neighbours(text: str | None, option: str, count: str, alpha: str) -> dict[str, Any]:
    """'50,3' -> {count: 50, alpha: 3.0}, alpha 3 where it is left out; None -> {}. Raises ValueError."""
    if text is None:
        return {}
    parts = text.split(",")
    if not parts[0].isdecimal() or len(parts) > 2:
        raise ValueError(f"{option} {text!r}: give K or K,ALPHA, such as 50,3")
    return {count: int(parts[0]), alpha: numbers(parts[1], option)[0] if len(parts) == 2 else 3.0}


def key_values(texts: list[str], option: str) -> dict[str, Any]:
    """['upright=true'] -> {'upright': True}: JSON where it is, else text. Raises ValueError."""
    values: dict[str, Any] = {}
    for text in texts:
        key, sign, value = text.partition("=")
        if not sign:
            raise ValueError(f"{option} {text!r}: write KEY=VALUE")
        try:
            values[key.strip()] = json_from(value, text)
        except BadText:
            values[key.strip()] = value.strip()
    return values
