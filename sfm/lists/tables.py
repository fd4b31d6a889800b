"""Csv files of photographs: one row per photograph, `name` its path below the root of the photographs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from storage.files.digests import file_sha256
from storage.outside.names import Names, UnknownName
from storage.outside.text import BadText


def photo_digests(names: Sequence[str], photo_root: Path | str, where: Sequence[str]) -> list[str]:
    """[N] sha256 of every photograph's bytes. where: what an error says of each. Raises BadText."""
    root = Path(photo_root)
    files: Names | None = None
    digests: list[str] = []
    for name, begin in zip(names, where, strict=True):
        try:
            if not (root / name).is_file():
                files = files or Names(each.relative_to(root).as_posix() for each in sorted(root.rglob("*")))
                name = files.find(name)
            digests.append(file_sha256(root / name))
        except (OSError, ValueError) as error:
            hint = error.hint if isinstance(error, UnknownName) else ""
            raise BadText(
                f"{begin}: {name!r} cannot be read below {str(photo_root)!r}{hint}; correct the name or the "
                "folder"
            ) from error
    return digests
