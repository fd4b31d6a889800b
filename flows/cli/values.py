"""Values of the command line that are more than one number or word."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from storage.outside.text import BadText
from storage.outside.values import json_from

if TYPE_CHECKING:
    from retrieval.nearest.expansion import Reranking


def numbers(text: str, option: str, example: str = "1,0.7071,0.5") -> tuple[float, ...]:
    """'1,0.5' -> (1.0, 0.5). Raises ValueError."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{option} {text!r}: give numbers with commas, such as {example}") from None


def read_scales(options: dict[str, Any]) -> None:
    """Numbers in place of the text of --scales. Raises ValueError."""
    described = options["description"]
    described["scales"] = numbers(described["scales"], "--scales")


def neighbours(text: str | None, option: str, count: str, alpha: str) -> dict[str, Any]:
    """'50,3' -> {count: 50, alpha: 3.0}, alpha 3 where it is left out; None -> {}. Raises ValueError."""
    if text is None:
        return {}
    parts = text.split(",")
    if not parts[0].isdecimal() or len(parts) > 2:
        raise ValueError(f"{option} {text!r}: give K or K,ALPHA, such as 50,3")
    return {count: int(parts[0]), alpha: numbers(parts[1], option)[0] if len(parts) == 2 else 3.0}


def reranking(text: str | None) -> "Reranking | None":
    """'400,9,0.15' -> M, K and beta of --rerank; what is left out has its default. Raises ValueError."""
    if text is None:
        return None
    from flows.cli.model_options import checked
    from retrieval.nearest.expansion import Reranking

    names, parts = list(Reranking.model_fields), text.split(",")
    try:
        return checked(Reranking, dict(zip(names, parts, strict=len(parts) > len(names))))
    except ValueError as error:
        raise ValueError(
            f"--rerank {text!r}: {error}; give M or M,K or M,K,BETA, such as 400,9,0.15"
        ) from error


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


def file_of(path: str | Path | None, hint: str = "") -> Path | None:
    """An absolute path, None for None. Raises ValueError for what is no file."""
    if path is not None and not Path(path).is_file():
        raise ValueError(f"{str(path)!r} is no file{hint}")
    return Path(path).absolute() if path is not None else None


def network_of(text: str | None) -> str | None:
    """The absolute path of a network's file; the name of a run as it is."""
    return str(Path(text).absolute()) if text and Path(text).is_file() else text


def check_output(path: Path | None, what: str = "file") -> None:
    """Raises ValueError where a file could not be written for want of a folder."""
    if path is not None and not path.absolute().parent.is_dir():
        raise ValueError(f"{str(path.parent)!r} is no folder; make it, or write the {what} elsewhere")
