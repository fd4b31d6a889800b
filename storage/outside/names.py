r"""Photographs by the names that lists from outside have for them.

A name is taken as it stands where it is known, else as the one known name that differs in its form alone:
Unicode composed or decomposed (macOS), `folder\name.jpg` (Windows), `./` before it, blanks around it, the
case of the ending.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable

from storage.files.words import nearest_name

_MOST_COMPARED = 10_000
_SHOWN = 3


class UnknownName(ValueError):
    """A name that is no photograph's, or that of several."""

    def __init__(self, written: str, names: Names) -> None:
        super().__init__(written)
        self._written, self._names = written, names

    @property
    def hint(self) -> str:
        """See `Names.hint`; looked for only when it is asked for, since a list may hold many such names."""
        return self._names.hint(self._written)

    def __str__(self) -> str:
        return f"no photograph is called {self._written!r}{self.hint}"


class Names:
    """Known names of photographs, found by what others call them."""

    def __init__(self, known: Iterable[str]) -> None:
        self._known = dict.fromkeys(known)
        self._by: dict[Callable[[str], str], dict[str, list[str]]] = {}

    def find(self, *written: str) -> str:
        """The known name that is meant by the first spelling with which one is. Raises UnknownName."""
        for each in written:
            if each in self._known:
                return each
        for each in written:
            alike = self.alike(each)
            if len(alike) > 1:
                raise UnknownName(each, self)
            if alike:
                return alike[0]
        raise UnknownName(written[0], self)

    def has(self, written: str) -> bool:
        """Whether a name is known as it stands."""
        return written in self._known

    def means(self, written: str) -> bool:
        """Whether at least one known name is meant, in whatever form."""
        return bool(self.alike(written))

    def ending(self, written: str) -> list[str]:
        """The known names that the written one is the end of, or that are its end, folder by folder.

        Those that are so as they stand, else in whatever form.
        """
        alike = self._table(_last).get(_last(written), [])
        exact = [name for name in alike if _ends(name, written)]
        return exact or [name for name in alike if _ends(_loose(name), _loose(written))]

    def alike(self, written: str) -> list[str]:
        """The known names that may be meant, by the strictest comparison that finds any."""
        if written in self._known:
            return [written]
        for key in (form, _loose):
            if alike := self._table(key).get(key(written)):
                return alike
        return []

    def hint(self, written: str) -> str:
        """Which known names come near, behind a comma; empty where none does."""
        if len(alike := self.alike(written)) > 1:
            forms = "which differ in the form of their names alone: rename one, or write it exactly"
            return f", it may be {_several(alike)}, {forms}"
        if same := self._table(_folded).get(_folded(written)):
            return f", only upper and lower case differ from {_several(same)}: write it so"
        elsewhere = self._table(_last).get(_last(written), [])
        near = nearest_name(written, self._known) if len(self._known) <= _MOST_COMPARED else None
        found = elsewhere[0] if elsewhere else near
        return f", did you mean {found!r}?" if found else ""

    def _table(self, key: Callable[[str], str]) -> dict[str, list[str]]:
        """Known names by a form of theirs, made when it is first needed."""
        if key not in self._by:
            made = self._by[key] = dict[str, list[str]]()
            for name in self._known:
                made.setdefault(key(name), []).append(name)
        return self._by[key]


def _ends(one: str, other: str) -> bool:
    return f"/{one}".endswith(f"/{other}") or f"/{other}".endswith(f"/{one}")


def form(name: str) -> str:
    """A name as it is compared: Unicode composed, slashes, no `./` before it, no blanks around it."""
    path = unicodedata.normalize("NFC", name).replace("\\", "/").strip(" \t")
    while path.startswith("./"):
        path = path[2:].lstrip("/")
    return path


def _loose(name: str) -> str:
    """The form with its ending in lower case."""
    path = form(name)
    stem, dot, ending = path.rpartition(".")
    return f"{stem}{dot}{ending.lower()}" if dot and "/" not in ending else path


def _last(name: str) -> str:
    return _loose(name).rsplit("/", 1)[-1]


def _folded(name: str) -> str:
    return form(name).casefold()


def _several(names: list[str]) -> str:
    shown = " and ".join(map(repr, names[:_SHOWN]))
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
