"""The photographs that a list names, among the files of a folder that were scanned."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from storage.outside.names import Names, UnknownName
from storage.photographs.tables import PhotoEntry

_SHOWN = 5
_THREADS = 4
_CHECKED_PX = 64


class UnusablePhotographs(ValueError):
    """Photographs of a list that the folder does not have, or not as usable files."""


@dataclass(frozen=True)
class Listed:
    """Photographs [N] of a list: names (paths), sha256 ("" = the list does not know), where each is listed.

    folders: where below the folder of photographs the names may begin.
    """

    names: Sequence[str]
    sha256: Sequence[str]
    where: Sequence[str]
    folders: Sequence[str] = ("",)


def find_photographs(listed: Listed, files: Sequence[PhotoEntry], source: str) -> list[PhotoEntry]:
    """[N] the file of each photograph of a list.

    By content where the list knows it (of equal files the one with the listed name), else by name, in
    whatever form (`storage.outside.names`). source: the list's name, for errors. Raises UnusablePhotographs
    that names some of those without one.
    """
    by_name, names = {file.name: file for file in files}, Names(file.name for file in files)
    by_digest: dict[str, PhotoEntry] = {}
    for file in files:
        if file.status == "ok" and file.sha256:
            by_digest.setdefault(file.sha256, file)
    found: list[PhotoEntry] = []
    wrong: dict[int, str | UnknownName] = {}
    for row, (name, digest) in enumerate(zip(listed.names, listed.sha256, strict=True)):
        named, absent = None, None
        try:
            named = by_name[names.find(*(at + name for at in listed.folders))]
        except UnknownName as error:
            absent = error
        chosen, reason = _choose(named, digest, by_digest)
        if chosen is None:
            wrong[row] = reason or absent or ""
        else:
            found.append(chosen)
    if wrong:
        raise _unusable(wrong, listed, source)
    return found


def check_readable(
    listed: Listed, files: Sequence[PhotoEntry], source: str, path_of: Callable[[str], Path]
) -> None:
    """Decode every file at a small size. path_of: name -> file. Raises UnusablePhotographs."""
    different = {file.name: row for row, file in reversed(list(enumerate(files)))}
    with ThreadPoolExecutor(_THREADS) as pool:
        reasons = pool.map(lambda name: _unreadable(path_of(name)), different)
        wrong: dict[int, str | UnknownName] = {
            row: why for row, why in zip(different.values(), reasons, strict=True) if why
        }
    if wrong:
        raise _unusable(dict(sorted(wrong.items())), listed, source)


def _choose(
    named: PhotoEntry | None, digest: str, by_digest: Mapping[str, PhotoEntry]
) -> tuple[PhotoEntry | None, str]:
    """The file, or why there is none ("" = no such file)."""
    if digest and not (named and named.sha256 == digest):
        if digest in by_digest:
            return by_digest[digest], ""
        if named is not None and named.status == "ok" and named.sha256:
            return None, "its content is another than when the list was made"
    if named is not None and named.status != "ok":
        return None, f"{named.status}: {named.reason}"
    return named, ""


def _unreadable(path: Path) -> str:
    from storage.pictures.decoding import MOST_MEGAPIXELS, Rejected, Unsupported, check_usable, decode

    try:
        check_usable(decode(path, halved_to=2 * _CHECKED_PX, max_megapixels=MOST_MEGAPIXELS))
    except (Rejected, Unsupported) as why:
        return str(why)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return ""


def _unusable(wrong: Mapping[int, str | UnknownName], listed: Listed, source: str) -> UnusablePhotographs:
    shown = [
        f"{listed.names[row]!r}{f' ({listed.where[row]})' if listed.where[row] else ''}: {_said(why)}"
        for row, why in list(wrong.items())[:_SHOWN]
    ]
    more = f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
    return UnusablePhotographs(
        f"{source}: {len(wrong)} of {len(listed.names)} photographs of the list are no usable photographs of "
        f"the folder: {'; '.join(shown)}{more}. Names are paths below PHOTOS: give the folder that the list "
        "was made for, correct the names, or take these photographs out of the list"
    )


def _said(why: str | UnknownName) -> str:
    return why if isinstance(why, str) else f"not in the folder{why.hint}"
