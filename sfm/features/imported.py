"""Learned local features that were made elsewhere: an hloc file, read onto the working copies.

hloc's file has one group per photograph, named by its path below the root: `keypoints` [n, 2] px on a
picture of `image_size` (width, height), first pixel's centre at (0, 0); `descriptors` [D, n]; `scores` [n]
where the detector has them. Source: hloc/extract_features.py of cvg/Hierarchical-Localization.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from numpy.typing import NDArray

from sfm.photographs.outcome import Outcome
from storage.files.errors import ArtifactError
from storage.hdf5.access import HDF5_ERRORS, open_file
from storage.hdf5.sources import UNWATCHED
from storage.hdf5.walk import MOST_EXPANSION, at_path, walk
from storage.outside import names as outside_names
from storage.outside.guarded import read_outside

Frame = Literal["auto", "stored", "upright"]
Names = Mapping[str, str]
"""sha256 of a photograph -> name of its group in the file."""

_HALF = 0.5  # the centre of a pixel, where its corner is at a whole number
_SLACK_PX = 2.0  # hloc stores float16, in steps of 1 px above 1024 and of 2 px above 2048
_SLACK_SHARE = 0.001


class UnusableLocalFeatures(ValueError):
    """A file of local features that cannot be read, or not for every photograph."""


def group_names(path: Path, names: Mapping[str, str], shas: Sequence[str]) -> dict[str, str]:
    """`groups_of` of a file from outside, read in a process of its own. Raises UnusableLocalFeatures."""
    try:
        found: dict[str, str] = read_outside("sfm.features.imported:groups_of", path, dict(names), list(shas))
    except ArtifactError as error:
        raise UnusableLocalFeatures(f"{error}; features.hloc_file must be hloc's features.h5") from error
    return found


def groups_of(
    path: Path,
    names: Mapping[str, str],
    shas: Sequence[str],
    watch: Callable[[str], None] = UNWATCHED,
) -> dict[str, str]:
    """sha256 -> name of its group in the file, for every photograph; looks at names, shapes and types only.

    names: file below the root of the photographs -> sha256, copies too, "" = unusable; shas: the photographs.
    The first name that the file has counts, then the sha256 itself. Raises UnusableLocalFeatures: no hloc
    file, a photograph that is not in it, arrays of other shapes or types, descriptors of different lengths.
    """
    known: dict[str, list[str]] = {sha: [] for sha in shas}
    for name in sorted(names):
        if names[name] in known:
            known[names[name]].append(name)
    with _opened(path) as file:
        found = {sha: _first_there(file, [*own, sha], watch) for sha, own in known.items()}
        missing = [sha for sha, name in found.items() if name is None]
        if missing:
            listed = walk(file).groups.items()
            groups = outside_names.Names(name for name, group in listed if "keypoints" in group)
            found |= {sha: _in_other_form(groups, known[sha]) for sha in missing}
            missing = [sha for sha in missing if found[sha] is None]
        if missing:
            _raise_missing(path, file, missing, known)
        there = {sha: name for sha, name in found.items() if name is not None}
        _check_lengths(path, file, there, watch)
    return there


def read_features(
    path: Path, groups: Names, outcomes: Mapping[str, Outcome], frame: Frame
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(sha256, features in the layout of schema features) of every photograph in `groups`, sorted by sha256.

    outcomes: of the same photographs; frame: the picture that keypoints lie on, see `on_working_copy`.
    Descriptors are float32 [D, n] as the file has them. All of it is read in a process of its own before.
    Raises UnusableLocalFeatures for wrong values.
    """
    try:
        read_outside("sfm.features.imported:look", path, dict(groups))
    except ArtifactError as error:
        raise UnusableLocalFeatures(f"{error}; features.hloc_file must be hloc's features.h5") from error
    with _opened(path) as file:
        for sha in sorted(groups):
            where = f"{path}: {groups[sha]!r}"
            arrays = _arrays(file, groups[sha], where)
            size, keypoints = arrays["image_size"], arrays["keypoints"]
            outcome = outcomes[sha]
            yield (
                sha,
                {
                    "keypoints": on_working_copy(keypoints, size, outcome, frame, where),
                    "descriptors": arrays["descriptors"].astype(np.float32),
                    "scores": arrays["scores"].astype(np.float32),
                    "image_size": np.array([outcome.working_width, outcome.working_height], np.int64),
                    "focal_prior_px": np.float64(outcome.focal_prior_px),
                },
            )


def look(path: Path, groups: Names, *, watch: Callable[[str], None]) -> None:
    """Read every array of these photographs and keep none. Raises UnusableLocalFeatures."""
    with _opened(path) as file:
        for name in sorted(groups.values()):
            watch(name)
            _arrays(file, name, f"{path}: {name!r}")


def on_working_copy(
    keypoints: NDArray[np.float64], size: NDArray[np.float64], outcome: Outcome, frame: Frame, where: str
) -> NDArray[np.float32]:
    """Keypoints [n, 2] px of a picture of `size` (width, height) -> [n, 2] on the working copy.

    Both have the first pixel's centre at (0, 0). frame: the picture is the photograph as stored, or upright
    as EXIF asks; auto: as its size says, stored where the size fits both (hloc ignores EXIF since its pull
    request 373; before, it turned photographs upright). Raises UnusableLocalFeatures where it fits neither.
    """
    stored = np.array([outcome.width, outcome.height], np.float64)
    upright = np.array(outcome.upright, np.float64)
    turn = _frame_of(size, stored, upright, frame, where) == "stored"
    unit = (keypoints + _HALF) / size  # 0..1 over the picture
    if turn:
        unit = _upright(unit, outcome.orientation)
    scaled = unit * [outcome.working_width, outcome.working_height] - _HALF
    return scaled.astype(np.float32)


def _frame_of(
    size: NDArray[np.float64],
    stored: NDArray[np.float64],
    upright: NDArray[np.float64],
    frame: Frame,
    where: str,
) -> Frame:
    gaps: dict[Frame, float] = {"stored": _gap(size, stored), "upright": _gap(size, upright)}
    if frame == "auto":
        frame = "stored" if gaps["stored"] <= gaps["upright"] else "upright"
    if gaps[frame] > 1:
        width, height = (stored if frame == "stored" else upright).astype(int).tolist()
        raise UnusableLocalFeatures(
            f"{where}: its image_size {_by(size)} has not the shape of the photograph, {width} x {height} "
            f"{frame}; extract the features of this photograph again"
        )
    return frame


def _gap(size: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """How far two sizes are from one shape; 1 is what rounding to whole pixels can do."""
    return float(abs(size[0] * other[1] - size[1] * other[0]) / other.sum())


def _upright(unit: NDArray[np.float64], orientation: int) -> NDArray[np.float64]:
    """Points [n, 2] on a stored picture -> on the upright one, both 0..1 (EXIF 2.32, tag 0x0112)."""
    x, y = unit.T
    return np.stack(
        {
            1: (x, y),
            2: (1 - x, y),
            3: (1 - x, 1 - y),
            4: (x, 1 - y),
            5: (y, x),
            6: (1 - y, x),
            7: (1 - y, 1 - x),
            8: (y, 1 - x),
        }[orientation],
        axis=1,
    )


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    """The file, and whatever HDF5 says about its bytes as UnusableLocalFeatures."""
    try:
        with open_file(path) as file:
            yield file
    except UnusableLocalFeatures:
        raise
    except (FileNotFoundError, ArtifactError) as error:
        raise UnusableLocalFeatures(f"{error}; features.hloc_file must be hloc's features.h5") from error
    except HDF5_ERRORS as error:
        raise UnusableLocalFeatures(f"{path}: cannot be read ({error}); write it with hloc again") from error


def _first_there(file: h5py.File, names: Sequence[str], watch: Callable[[str], None]) -> str | None:
    watch(names[0])
    return next((name for name in names if _group(file, name) is not None), None)


def _in_other_form(groups: outside_names.Names, names: Sequence[str]) -> str | None:
    """The one group that is meant by the first of the names with which one is, in whatever form."""
    alike = next((found for name in names if (found := groups.alike(name))), [])
    return alike[0] if len(alike) == 1 else None


def _group(file: h5py.File, name: str) -> h5py.Group | None:
    """The group of a photograph; None where there is none, or a folder of photographs has the name."""
    try:
        found = at_path(file, name)
        return found if isinstance(found, h5py.Group) and "keypoints" in found else None
    except UnicodeError:  # a file name that is not UTF-8
        return None


def _raise_missing(path: Path, file: h5py.File, missing: list[str], known: Mapping[str, list[str]]) -> None:
    name = [*known[missing[0]], missing[0]][0]
    of = f"{len(missing)} of {len(known)} photographs"
    holds = ", ".join(repr(name) for name in sorted(file)[:3]) or "nothing"
    raise UnusableLocalFeatures(
        f"{path}: no local features of {name!r} ({of} are missing; its root holds {holds}); name photographs "
        "as they are below their root, and extract features of all of them: SIFT and learned features "
        "cannot be matched with each other"
    )


def _check_lengths(path: Path, file: h5py.File, groups: Names, watch: Callable[[str], None]) -> None:
    lengths: dict[int, str] = {}
    for name in sorted(groups.values()):
        watch(name)
        datasets = _checked(at_path(file, name), f"{path}: {name!r}")
        lengths.setdefault(datasets["descriptors"].shape[0], name)
    if len(lengths) > 1:
        (one, first), (two, second) = list(lengths.items())[:2]
        raise UnusableLocalFeatures(
            f"{path}: descriptors of {first!r} have {one} numbers, of {second!r} {two}; use one "
            "extractor for all photographs"
        )


def _checked(group: h5py.Group, where: str) -> dict[str, h5py.Dataset]:
    """The datasets of a photograph, their shapes and types as they must be."""
    found = {name: at_path(group, name) for name in ("keypoints", "descriptors", "image_size", "scores")}
    for name, each in found.items():
        if not isinstance(each, h5py.Dataset) and name != "scores":
            raise UnusableLocalFeatures(f"{where} has no {name}; write the file with hloc's extract_features")
    datasets = {name: each for name, each in found.items() if isinstance(each, h5py.Dataset)}
    count = datasets["keypoints"].shape[0] if datasets["keypoints"].shape else 0
    length = datasets["descriptors"].shape[0] if datasets["descriptors"].shape else 0
    shapes = {"keypoints": (count, 2), "descriptors": (length, count), "image_size": (2,), "scores": (count,)}
    for name, each in datasets.items():
        if each.external or each.is_virtual:
            raise UnusableLocalFeatures(f"{where}: {name} are kept in another file; copy them into this one")
        announced, stored = int(each.nbytes), int(each.id.get_storage_size())
        if announced > stored * (MOST_EXPANSION if each.chunks else 1):
            raise UnusableLocalFeatures(f"{where}: {name} claim {announced} bytes, the file stores {stored}")
        if each.shape != shapes[name] or 0 in each.shape[: name == "descriptors"]:
            raise UnusableLocalFeatures(
                f"{where}: {name} of shape {each.shape}; hloc has keypoints [n, 2], descriptors [D, n], "
                "scores [n], image_size [2]"
            )
        if each.dtype.kind not in ("f" if name == "descriptors" else "fiu"):
            raise UnusableLocalFeatures(
                f"{where}: {name} are {each.dtype}; give float16, float32 or float64 (binary "
                "descriptors, such as ORB's, cannot be compared by distance)"
            )
    return datasets


def _arrays(file: h5py.File, name: str, where: str) -> dict[str, NDArray[np.float64]]:
    group = _group(file, name)
    if group is None:
        raise UnusableLocalFeatures(f"{where} is not there any more; run again")
    arrays = {key: np.asarray(each[()], np.float64) for key, each in _checked(group, where).items()}
    arrays.setdefault("scores", np.ones(len(arrays["keypoints"])))
    for key, values in arrays.items():
        if not np.isfinite(values).all():
            raise UnusableLocalFeatures(f"{where}: {key} hold values that are not finite; extract them again")
    _check_inside(arrays["keypoints"], arrays["image_size"], where)
    return arrays


def _check_inside(keypoints: NDArray[np.float64], size: NDArray[np.float64], where: str) -> None:
    if (size < 1).any():
        raise UnusableLocalFeatures(f"{where}: image_size {_by(size)}; it is width and height in px")
    slack = _SLACK_PX + _SLACK_SHARE * size.max()
    outside = np.flatnonzero(((keypoints < -_HALF - slack) | (keypoints > size - _HALF + slack)).any(axis=1))
    if outside.size:
        x, y = keypoints[outside[0]].tolist()
        raise UnusableLocalFeatures(
            f"{where}: keypoint {outside[0]} at ({x:g}, {y:g}) lies outside the picture of {_by(size)} px; "
            "keypoints and image_size must be of one picture"
        )


def _by(size: NDArray[np.float64]) -> str:
    return f"{size[0]:g} x {size[1]:g}"
