"""Pairs of images that a COLMAP database says were matched, with their inliers; read with sqlite alone.

Source: https://colmap.github.io/database.html (pair_id = 2147483647 * smaller id + larger id).
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from storage.files.errors import ArtifactError
from storage.outside.guarded import read_outside

_PAIR = 2147483647
_QUERY_S = 60.0  # of processor time: a database may define views without end
_NOT_VERIFIED = (0, 1, 8)  # UNDEFINED, DEGENERATE and WATERMARK, as in sfm.matching


class BadDatabase(ValueError):
    """A file that is no COLMAP database."""


def read_pairs(database: Path) -> dict[tuple[str, str], int]:
    """Every matched pair of image names, the smaller name first -> inliers of its two-view geometry, 0 =
    none.

    The folder is not changed, not even by the files that sqlite likes to put beside a database, which is read
    in a process of its own. Raises BadDatabase.
    """
    try:
        found: dict[tuple[str, str], int] = read_outside(
            "sfm.scene.database_pairs:look", database, step_s=_QUERY_S
        )
    except ArtifactError as error:
        raise BadDatabase(f"{error}; leave it out of the folder") from error
    return found


def look(database: Path) -> dict[tuple[str, str], int]:
    """`read_pairs`, in this process."""
    log = database.with_name(f"{database.name}-wal")
    if log.exists() and log.stat().st_size:
        raise BadDatabase(
            f"{database}: {log.name} holds changes to it; close COLMAP, or open and close it once"
        )
    try:
        address = f"file:{quote(str(database.absolute()))}?mode=ro&immutable=1"
        with closing(sqlite3.connect(address, uri=True)) as opened:
            names = dict(opened.execute("SELECT image_id, name FROM images").fetchall())
            found = {pair: 0 for (pair,) in opened.execute("SELECT pair_id FROM matches")}
            rows = opened.execute("SELECT pair_id, rows, config FROM two_view_geometries").fetchall()
            found |= {pair: 0 if config in _NOT_VERIFIED else count for pair, count, config in rows}
            return {_names(pair, names): int(count) for pair, count in found.items()}
    except (sqlite3.Error, KeyError, TypeError, ValueError, OverflowError) as error:
        raise BadDatabase(
            f"{database}: no COLMAP database ({error}); leave it out of the folder or export it again"
        ) from error


def _names(pair: int, names: dict[int, str]) -> tuple[str, str]:
    first, second = names[pair // _PAIR], names[pair % _PAIR]
    return min(first, second), max(first, second)
