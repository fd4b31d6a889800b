"""The faiss index of a file from outside, read and searched in a process of its own.

Bytes that are made to do so crash faiss or lead it in circles; the digest that guards them in the file can be
made with them.
"""

from __future__ import annotations

import weakref
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.search import approximate
from retrieval.search.index_file import Piece
from retrieval.search.options import IndexOptions
from storage.children.child import Child
from storage.outside.guarded import STEP_S, ask_outside

_BYTES_PER_S = 50 << 20
"""Of the file, for each query: what no honest index is slower than."""


class GuardedFaiss(approximate.Elsewhere):
    """The index whose bytes `content` [B] and rows [N, D], memory maps of the file at `path`, are.

    Raises UnusableFaiss, and DamagedArtifact where reading it ends its process; so does `call`.
    """

    def __init__(
        self, path: Path, content: NDArray[np.uint8], rows: approximate.Rows, options: IndexOptions
    ) -> None:
        self._path, self._child = path.absolute(), Child(f"the faiss index of {path.name}")
        weakref.finalize(self, self._child.cancel)
        self._bytes = content.nbytes + rows.nbytes
        self._made_of = (Piece.of(content), Piece.of(rows), options.model_dump_json())
        self._ask("opened", queries=1)

    def call(self, function: str, *arguments: Any, **named: Any) -> Any:
        queries = len(arguments[0]) if arguments and isinstance(arguments[0], np.ndarray) else 1
        return self._ask("called", function, *arguments, queries=queries, **named)

    def _ask(self, what: str, *arguments: Any, queries: int, **named: Any) -> Any:
        step_s = STEP_S + self._bytes * queries / _BYTES_PER_S
        function = f"retrieval.search.guarded:{what}"
        return ask_outside(
            self._child, function, self._path, self._made_of, *arguments, step_s=step_s, **named
        )


@lru_cache(maxsize=1)
def _index(path: Path, content: Piece, rows: Piece, options: str) -> Any:
    chosen = IndexOptions.model_validate_json(options)
    return approximate.from_bytes(content.mapped(path), rows.mapped(path), chosen)


def opened(path: Path, made_of: tuple[Piece, Piece, str]) -> None:
    """In the process: read the index."""
    _index(path, *made_of)


def called(
    path: Path, made_of: tuple[Piece, Piece, str], function: str, *arguments: Any, **named: Any
) -> Any:
    """In the process: a function of `approximate`, called on the index, which stays."""
    return getattr(approximate, function)(_index(path, *made_of), *arguments, **named)
