"""A process that dies, or whose disk is full, at every step that it takes on a store. More: `make crash`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
MEMORY = Path("/dev/shm")
"""What is killed there leaves what it leaves on a disk, without waiting for one."""


@pytest.mark.parametrize("scenario", ["items", "index rebuilt"])
def test_nothing_wrong_or_unfinished_is_left(scenario, tmp_path):
    folder = str(MEMORY if os.access(MEMORY, os.W_OK) else tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash.steps", scenario],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "TMPDIR": folder},
    )
    assert done.stdout, done.stderr
    found = json.loads(done.stdout)
    assert found["failures"] == [] and found["steps"] >= 20
    assert done.returncode == 0
