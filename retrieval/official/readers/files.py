"""Where the files of a benchmark lie, whatever folder and form they were unpacked in."""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from storage.outside.names import Names
from storage.outside.text import BadText, read_text

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png")


class MissingBenchmarkFile(ValueError):
    """A file or folder of a benchmark that is not where it is expected."""


class InvalidBenchmarkFile(ValueError):
    """A file of a benchmark that is not of the official form."""


def root_of(data: Path, names: Sequence[str], *markers: str) -> Path:
    """The folder that holds one of `markers` (globs): `data` itself, or one in it called as the benchmark.

    Raises MissingBenchmarkFile that names what is expected where.
    """
    if not data.is_dir():
        raise MissingBenchmarkFile(f"'{data}' is no folder; give the folder of {names[0]} as --data")
    for folder in (data, *(data / name for name in names)):
        if folder.is_dir() and any(next(folder.glob(marker), None) is not None for marker in markers):
            return folder
    raise MissingBenchmarkFile(
        f"{names[0]}: no {' or '.join(markers)} in '{data}' or '{data / names[0]}'; put the official files "
        "there (nothing is downloaded)"
    )


def image_files(root: Path, below: str = "") -> Iterator[str]:
    """Files below the root of every .jpg and .png in a folder of it ("" or ending in /); hidden ones not."""
    with os.scandir(root / below) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from image_files(root, f"{below}{entry.name}/")
            elif entry.name.lower().endswith(IMAGE_ENDINGS):
                yield f"{below}{entry.name}"


def images_by_stem(root: Path, folder: str) -> dict[str, str]:
    """Name without ending -> file below root, of every .jpg below a folder. Raises MissingBenchmarkFile."""
    below = image_files(root, f"{folder}/") if (root / folder).is_dir() else ()
    found = {PurePosixPath(name).stem: name for name in sorted(below)}
    if not found:
        raise MissingBenchmarkFile(f"no images in '{root / folder}'; expected {folder}/NAME.jpg")
    return found


def jpg_files(root: Path, names: Sequence[str], *, images: bool) -> list[str]:
    """The file of each name in jpg/; without images nobody looks whether they are there.

    Raises MissingBenchmarkFile.
    """
    if not images:
        return [f"jpg/{name}.jpg" for name in names]
    if not (root / "jpg").is_dir():
        raise MissingBenchmarkFile(f"'{root / 'jpg'}' is missing; expected jpg/NAME.jpg, the images")
    return files_of(names, images_by_stem(root, "jpg"), str(root / "jpg"))


def listed_lines(path: Path) -> list[tuple[int, str]]:
    """(number, line) of the lines that are not empty. Raises MissingBenchmarkFile, InvalidBenchmarkFile."""
    if not path.is_file():
        raise MissingBenchmarkFile(f"'{path}' is missing; expected the official list")
    try:
        return read_text(path).filled_lines()
    except BadText as error:
        raise InvalidBenchmarkFile(str(error)) from error


def resolved(root: Path, files: Sequence[str]) -> list[str]:
    """The files below the root, in whatever form a list names them (`storage.outside.names`).

    Raises MissingBenchmarkFile with the first that is not there, and how many are not.
    """
    there = {file for file in files if (root / file).is_file()}
    known = Names(() if there.issuperset(files) else image_files(root))
    return _meant(files, there, known, lambda file: f"{root / file}")


def files_of(names: Sequence[str], known: Mapping[str, str], where: str) -> list[str]:
    """The file of each name, in whatever form. Raises MissingBenchmarkFile with the first, and how many."""
    meant = _meant(names, known, Names(known), lambda name: f"{where}/{name}.jpg")
    return [known[name] for name in meant]


def _meant(
    names: Sequence[str], there: Container[str], known: Names, place: Callable[[str], str]
) -> list[str]:
    """Each name, or where it is not there the one known name that it means. place: for the error."""
    found = {name: [name] if name in there else known.alike(name) for name in names}
    absent = [name for name in names if len(found[name]) != 1]
    if absent:
        count, hint = f"({len(absent)} of {len(names)} images in all)", known.hint(absent[0])
        raise MissingBenchmarkFile(f"'{place(absent[0])}' is missing {count}{hint}")
    return [found[name][0] for name in names]
