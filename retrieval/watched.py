"""Steps that need torch, as functions for a process of their own: see storage.limited."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from retrieval.extraction import extract_chunk
from retrieval.network_options import make_network


def extract(*arguments: Any, watch: Callable[[str], None], **named: Any) -> dict[str, Any]:
    """`extraction.extract_chunk`; news: "<done> <total>" after every photograph."""
    return extract_chunk(*arguments, progress=lambda done, total: watch(f"{done} {total}"), **named)


def make(*arguments: Any, watch: Callable[[str], None], **named: Any) -> dict[str, object]:
    """`network_options.make_network`."""
    return make_network(*arguments, **named)


def ready(*, watch: Callable[[str], None]) -> None:
    """Import what the others need."""
    import_module("retrieval.descriptors")
    import_module("retrieval.networks")
