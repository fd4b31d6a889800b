"""Distractors: a folder of images that show none of a benchmark's queries, put behind its database."""

from __future__ import annotations

from pathlib import Path

from retrieval.official.readers.common import Benchmark, BenchmarkImage
from retrieval.official.readers.files import MissingBenchmarkFile, image_files


class NoDistractors(ValueError):
    """A benchmark whose protocol knows no distractors."""


def distractor_images(folder: Path, benchmark: Benchmark) -> list[BenchmarkImage]:
    """Every image below a folder, by path: the +100k of Oxford and Paris, +101k of Holidays, +1M.

    Only names are held, about 160 bytes each. Raises NoDistractors, MissingBenchmarkFile.
    """
    check_distractors(folder, benchmark)
    found = [BenchmarkImage(name) for name in sorted(image_files(folder))]
    if not found:
        raise MissingBenchmarkFile(f"no .jpg or .png in '{folder}'; expected the distractors' images")
    return found


def check_distractors(folder: Path, benchmark: Benchmark) -> None:
    """Whether the benchmark may have them and the folder is there. Raises as `distractor_images`."""
    if not benchmark.distractors:
        raise NoDistractors(f"{benchmark.name} is measured without distractors; leave --distractors out")
    if not folder.is_dir():
        raise MissingBenchmarkFile(f"'{folder}' is no folder; give the folder of the distractors' images")
