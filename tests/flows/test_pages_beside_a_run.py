"""Pages drawn in a thread of their own while the next stage works on the same files. More: `make crash`."""

from pathlib import Path

import pytest

from benchmarks.acceptance_runs import small_town
from tests.crash.ground import TOWN
from tests.crash.pages import in_process


@pytest.mark.slow
def test_pages_drawn_without_pause_fail_nothing(tmp_path: Path) -> None:
    """In a process of its own: what shares files, imports and settings with a run is new in it."""
    found = in_process(small_town(tmp_path / "photos", **TOWN), tmp_path / "store")
    assert found["wrong"] == []
    assert found["drawn"] > 20
