"""The folder of a training's checkpoints, without a training."""

from pathlib import Path

from retrieval.training.checkpoints import CheckpointFolder


def test_what_a_killed_run_was_writing_is_cleared_away(tmp_path: Path) -> None:
    CheckpointFolder(tmp_path, "a")
    half = tmp_path / "training" / ".epoch_000001.safetensors.123.tmp"
    half.write_bytes(b"half")
    CheckpointFolder(tmp_path, "a")
    assert not half.exists() and (tmp_path / "training" / "training.json").read_text() == "a"
