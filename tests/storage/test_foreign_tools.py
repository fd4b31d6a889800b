"""Files are HDF5 like any other: other programs open them without a warning and without this project."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.programs import H5DUMP, needs_h5dump
from tests.storage.layout_samples import SAMPLES, write_sample

PLAIN = """
import sys, h5py
with h5py.File(sys.argv[1]) as file:
    found = []
    file.visititems(lambda name, each: found.append(name) if isinstance(each, h5py.Dataset) else None)
    for name in found:
        file[name][()]
        assert file[name].attrs["description"]
assert not any(each.split(".")[0] in ("storage", "sfm", "retrieval", "flows") for each in sys.modules)
print(len(found))
"""


@needs_h5dump
@pytest.mark.parametrize("arguments", [["-H"], []], ids=["header", "values"])
@pytest.mark.parametrize("name", SAMPLES)
def test_h5dump_reads_every_kind_of_file_without_a_warning(
    tmp_path: Path, name: str, arguments: list[str]
) -> None:
    path = write_sample(tmp_path / "a b.h5", name)
    assert H5DUMP is not None
    found = subprocess.run([H5DUMP, *arguments, str(path)], capture_output=True)
    assert (found.returncode, found.stderr) == (0, b"")
    for key in SAMPLES[name]():
        assert f'DATASET "{key.rsplit("/", 1)[-1]}"'.encode() in found.stdout


@pytest.mark.parametrize("name", SAMPLES)
def test_h5py_alone_reads_every_kind_of_file(tmp_path: Path, name: str) -> None:
    path = write_sample(tmp_path / "a.h5", name)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-P", "-W", "error", "-c", PLAIN, str(path)]
    found = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert (found.returncode, found.stderr) == (0, "")
    assert int(found.stdout) == len(SAMPLES[name]())
