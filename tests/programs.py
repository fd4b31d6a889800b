"""Programs of others that some tests drive: a browser, HDF5's own tools.

A machine without one skips its tests and says what to install. Where `CI` is set they fail instead: `.ci/run`
installs all of them.
"""

from __future__ import annotations

import os
import shutil

import pytest

DEMANDED = bool(os.environ.get("CI"))
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def chromium() -> str | None:
    """The browser that the variable CHROMIUM names, else one that is on the PATH."""
    if named := os.environ.get("CHROMIUM"):
        return named
    return next((found for name in CHROMIUMS if (found := shutil.which(name))), None)


BROWSER = chromium()
H5DUMP = shutil.which("h5dump")

needs_browser = pytest.mark.skipif(
    BROWSER is None and not DEMANDED,
    reason="it drives a browser: install chromium, or name one with the variable CHROMIUM",
)
needs_h5dump = pytest.mark.skipif(
    H5DUMP is None and not DEMANDED, reason="it runs HDF5's own h5dump: install hdf5-tools"
)
