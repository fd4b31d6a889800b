"""A scene for hloc's tools: features, matches, global descriptors and pairs under hloc's names.

    features.h5             /<name>: keypoints [n, 2], descriptors [D, n], scores [n], image_size [2]
    matches.h5              /<name0>/<name1>, with - for / in names: matches0 [n0], matching_scores0 [n0]
    global-descriptors.h5   /<name>: global_descriptor [D]
    pairs.txt               a verified pair per line: name0 name1
    images/<name>           working copies

hloc's text files separate names by white space, so that white space in names is written as %20 and the like.
Source: cvg/Hierarchical-Localization, hloc/utils/io.py, parsers.py, match_features.py.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from sfm.export.names import Exported, ImageMode, exported, unique_names, write_photographs
from sfm.scene.scene import Scene
from storage.hdf5.access import create_file
from storage.hdf5.file import read_items

logger = logging.getLogger(__name__)

_FEATURES = ("keypoints", "descriptors", "scores", "image_size")
_MATCHES = ("matches0", "matching_scores0")


def hloc_name(name: str) -> str:
    """A name without white space, and without a leading # (a comment in hloc's lists)."""
    escaped = "".join(quote(letter) if letter.isspace() else letter for letter in name)
    return "%23" + escaped[1:] if escaped.startswith("#") else escaped


def pair_group(first: str, second: str) -> str:
    """hloc's `names_to_pair`: where the matches of two images lie."""
    return "/".join(name.replace("/", "-") for name in (first, second))


def export_hloc(
    scene: Scene,
    folder: Path,
    *,
    working: Mapping[str, Path],
    features: Mapping[str, Path],
    matches: Mapping[tuple[str, str], Path],
    descriptors: Mapping[str, Path],
    images: ImageMode = "copy",
) -> Exported:
    """Fill an empty folder with hloc's files.

    working, features, descriptors: sha256 -> folder or file that holds the photograph; matches: verified pair
    -> match file. Raises UnusableExport where a working copy is missing.
    """
    photographs = _hloc_names(exported(scene), scene)
    names = photographs.name
    _write_items(folder / "features.h5", _photographs(names, features), _FEATURES)
    _write_items(folder / "global-descriptors.h5", _photographs(names, descriptors), ("global_descriptor",))
    pairs = sorted(pair for pair in matches if pair[0] in names and pair[1] in names)
    groups = [(matches[pair], "/".join(pair), pair_group(names[pair[0]], names[pair[1]])) for pair in pairs]
    _write_items(folder / "matches.h5", groups, _MATCHES)
    lines = [f"{names[first]} {names[second]}\n" for first, second in pairs]
    (folder / "pairs.txt").write_text("".join(lines), encoding="utf-8")
    write_photographs(folder, scene, photographs, working, images)
    logger.debug("%d photographs and %d pairs exported", len(names), len(pairs))
    return photographs


def _hloc_names(photographs: Exported, scene: Scene) -> Exported:
    """Names that hloc can tell apart: its pair groups do not distinguish / from -."""
    wanted = sorted((hloc_name(name), sha) for sha, name in photographs.name.items())
    return replace(photographs, name=unique_names(wanted, lambda name: name.replace("/", "-")))


def _photographs(names: Mapping[str, str], files: Mapping[str, Path]) -> list[tuple[Path, str, str]]:
    return [(files[sha], sha, name) for sha, name in names.items() if sha in files]


def _write_items(out: Path, items: Iterable[tuple[Path, str, str]], fields: Sequence[str]) -> None:
    """Copy groups (file, item, name in `out`), a file at a time; equal items give equal bytes."""
    by_file: dict[Path, dict[str, str]] = {}
    for file, item, name in items:
        by_file.setdefault(file, {})[item] = name
    with create_file(out) as written:
        for file in sorted(by_file):
            names = by_file[file]
            for item, arrays in read_items(file, sorted(names), fields):
                group = written.create_group(names[item])
                for field in fields:
                    group.create_dataset(field, data=arrays[field], track_times=False)
