"""Scratch folders go with their block, with the next sweep when their maker was killed, and never else."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from storage.scratch_folders import remove_in_stead, scratch_folder, sweep_scratch

ROOT = Path(__file__).resolve().parents[2]
MAKER = """
import sys, time
from pathlib import Path
from storage.scratch_folders import scratch_folder
with scratch_folder("test", Path(sys.argv[1])) as folder:
    (folder / "inside").write_text("x")
    print(folder, flush=True)
    time.sleep(60)
"""


def killed_maker(parent: Path) -> Path:
    with subprocess.Popen(
        [sys.executable, "-c", MAKER, str(parent)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        assert (folder / "inside").exists()
        assert sweep_scratch(parent) == 0 and folder.exists()  # its maker lives
        process.send_signal(signal.SIGKILL)
    return folder


def test_it_is_empty_private_and_goes_with_its_block(tmp_path: Path) -> None:
    with scratch_folder("test", tmp_path) as folder:
        assert list(folder.iterdir()) == [] and folder.stat().st_mode & 0o077 == 0
        (folder / "file").write_text("x")
        with scratch_folder("test", tmp_path) as other:
            assert other != folder
        assert sweep_scratch(tmp_path) == 0 and (folder / "file").exists()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    folder = killed_maker(tmp_path)
    assert folder.exists()
    assert sweep_scratch(tmp_path) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_child_may_remove_it_in_its_stead(tmp_path: Path) -> None:
    remove_in_stead(killed_maker(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_links_and_other_folders_stay(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("kept")
    parent = tmp_path / "temporary"
    (parent / "retrieval-sfm-mine").mkdir(parents=True)
    os.symlink(target, parent / "retrieval-sfm-x.lock")
    assert sweep_scratch(parent) == 0
    assert target.read_text() == "kept" and len(list(parent.iterdir())) == 2
