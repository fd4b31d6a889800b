"""The Python of docs/inspect.md runs as it stands, on samples of the files that it names."""

import os
import re
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np

from tests.storage.layout_samples import write_sample

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "inspect.md").read_text(encoding="utf-8")
KINDS = ("scene", "training_set", "evaluation", "matches", "features")


def test_the_examples_run_one_after_another(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    assert len(blocks) == 4
    for kind in KINDS:
        write_sample(tmp_path / f"{kind}.h5", kind)
    shown = "\nprint('\\n'.join(map(str, [seen.tolist(), centers.shape, pairs.tolist(), xy.tolist()])))\n"
    code = "\n".join(blocks) + shown
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0 and found.stderr == "", found.stderr
    assert found.stdout.endswith("[0, 2]\n(2, 3)\n[[0, 1], [2, 0]]\n[[0.0, 1.0], [4.0, 5.0]]\n")
    for words in ("px mean reprojection error", "truncated; export it again", "off-the-shelf"):
        assert words in found.stdout


def test_every_path_of_the_other_examples_exists(tmp_path: Path) -> None:
    block = re.search(r"```matlab\n(.*?)```", PAGE, re.S)
    assert block is not None
    paths = re.findall(r"'scene\.h5', '(/[^']+)'", block[1])
    assert len(paths) == 7
    with h5py.File(write_sample(tmp_path / "scene.h5", "scene")) as file:
        assert all(path in file for path in paths)
        assert file["points/xyz"].attrs["unit"] == "model units"


def test_a_reader_by_columns_sees_the_dimensions_reversed(tmp_path: Path) -> None:
    """What the page says of MATLAB: the same bytes, read in Fortran's order, are the transposed array."""
    path = write_sample(tmp_path / "scene.h5", "scene")
    with h5py.File(path) as file:
        xyz, offset = file["points/xyz"][:], file["points/xyz"].id.get_offset()
    by_columns = np.fromfile(path, "<f8", xyz.size, offset=offset).reshape(3, len(xyz), order="F")
    assert np.array_equal(by_columns.T, xyz)
