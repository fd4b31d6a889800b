"""The folder of a training's checkpoints, without a training."""

import subprocess
import sys
from pathlib import Path

from retrieval.training.checkpoints import CheckpointFolder
from storage.files.whole import UNFINISHED

_KILLED_WHILE_IT_WRITES = """
import os, signal, sys
from pathlib import Path
import safetensors.torch
import torch
from retrieval.networks import files

def save(tensors, path, metadata):
    (Path(path).parent / ".tmpAbCdEf").write_bytes(b"half")  # as safetensors names its own
    os.kill(os.getpid(), signal.SIGKILL)

files.save_file = save
files.save_whole(Path(sys.argv[1]), {"a": torch.zeros(3)}, {})
"""


def test_what_a_killed_run_was_writing_is_cleared_away(tmp_path: Path) -> None:
    CheckpointFolder(tmp_path, "a")
    folder = tmp_path / "training"
    command = [sys.executable, "-c", _KILLED_WHILE_IT_WRITES, str(folder / "epoch_000001.safetensors")]
    assert subprocess.run(command).returncode == -9
    assert [path.name[: len(UNFINISHED)] for path in folder.iterdir() if path.is_dir()] == [UNFINISHED]
    CheckpointFolder(tmp_path, "a")
    assert [path.name for path in folder.iterdir()] == ["training.json"]
    assert (folder / "training.json").read_text() == "a"
