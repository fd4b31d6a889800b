"""Where the official ground truth, outputs and photographs of others lie, for tests that check against them.

They are not ours to hand on. `RETRIEVAL_SFM_SHARED` names their folder, else it is `shared` beside the
repository. Where the variable is set, what is missing fails; else its tests are skipped and say so.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

VARIABLE = "RETRIEVAL_SFM_SHARED"
DEMANDED = VARIABLE in os.environ
ROOT = Path(os.environ[VARIABLE]) if DEMANDED else Path(__file__).resolve().parents[2] / "shared"


def official(*parts: str) -> Path:
    """The path of an official file or folder, there or not."""
    return ROOT.joinpath(*parts)


def needs(path: Path) -> pytest.MarkDecorator:
    """Mark of a test that needs an official file or folder.

    Without it the test is skipped, but fails where the variable demands it.
    """
    return pytest.mark.skipif(not path.exists() and not DEMANDED, reason=reason(path))


def reason(path: Path) -> str:
    """Why a test is skipped and what would let it run."""
    return (
        f"{path.relative_to(ROOT)} belongs to others and is not ours to hand on: "
        f"put it into {ROOT} or name its folder with {VARIABLE}"
    )


def listed(pattern: str, *parts: str) -> list[Path]:
    """The official files of a folder that match, sorted, to run a test for each; without any the folder."""
    return sorted(official(*parts).glob(pattern)) or [official(*parts)]


def there(path: Path) -> Path:
    """The path itself, for a test that takes what it needs by name: skipped or failing as with `needs`."""
    if not path.exists() and not DEMANDED:
        pytest.skip(reason(path))
    return path
