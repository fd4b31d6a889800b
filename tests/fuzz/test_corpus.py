"""Inputs that mutations found faulty stay: each is read, or refused by one line that names the file."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from tests.fuzz.child import verdict, write_input
from tests.fuzz.mutations import mutated
from tests.fuzz.readers import READERS

CORPUS = Path(__file__).parent / "corpus"
FOUND = sorted(path for folder in CORPUS.iterdir() for path in folder.iterdir())
LIGHT = ("colmap_binary", "colmap_text", "truth_text", "csv", "yaml", "safetensors")


@pytest.mark.parametrize("path", FOUND, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_was_found_stays_mended(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / path.name
    shutil.copytree(path, copy) if path.is_dir() else shutil.copy(path, copy)
    what, error = verdict(READERS[path.parent.name].read, copy)
    assert what == "refused", error


@pytest.mark.parametrize("name", LIGHT)
def test_a_few_mutations_of_every_light_reader(name: str, tmp_path: Path) -> None:
    """The campaign in small: `make fuzz` is the whole one."""
    (tmp_path / "seeds").mkdir()
    reader = READERS[name]
    for path in reader.seeds(tmp_path / "seeds"):
        assert verdict(reader.read, path) == ("read", "")
    seeds = [
        {each.relative_to(tmp_path / "seeds").as_posix(): each.read_bytes() for each in files}
        for files in (
            [path] if path.is_file() else sorted(path.rglob("*")) for path in (tmp_path / "seeds").iterdir()
        )
    ]
    for number in range(40):
        path = write_input(seeds, reader.kind, f"quick/{name}/{number}", tmp_path / "input")
        what, error = verdict(reader.read, path)
        assert what != "fault", f"quick/{name}/{number}: {error}"


def test_a_mutation_is_the_same_every_time_and_seldom_the_seed() -> None:
    seed = bytes(range(256))
    for kind in ("bytes", "text"):
        drawn = [mutated([seed], kind, random.Random(number)) for number in range(50)]
        assert drawn == [mutated([seed], kind, random.Random(number)) for number in range(50)]
        assert len(set(drawn)) > 30 and drawn.count(seed) < 10
