"""A server, a worker and a browser for the tests of this folder: `retrieval-sfm up` on a small town, and
Debian's Chromium, or any other that is found, driven by Playwright."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.programs import BROWSER, CHROMIUMS, DEMANDED
from tests.ui.served import SMALL, Served, below, start

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route, StorageState

ARGUMENTS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
LIMIT_MS = 60_000.0


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=LIMIT_MS)
    if BROWSER is None:
        missing = pytest.fail if DEMANDED else pytest.skip
        missing(f"no browser: none of {', '.join(CHROMIUMS)} is on the PATH and CHROMIUM names none")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=BROWSER, args=list(ARGUMENTS))
        yield found
        found.close()


@pytest.fixture(scope="session")
def served(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """`up` on a new store with a small town; the form of end-to-end has options that take half a minute."""
    from benchmarks.acceptance_runs import small_town

    root = tmp_path_factory.mktemp("ui")
    with ExitStack() as stack:
        found = start(root / "store", small_town(root / "photos"))
        stack.callback(stop, found)
        found.fill_form("end-to-end", {"options": SMALL})
        yield found


def stop(served: Served) -> None:
    """Ctrl-C; what is left after a minute is killed, and that is an error."""
    served.process.send_signal(signal.SIGINT)
    try:
        served.process.wait(60)
    except subprocess.TimeoutExpired:
        served.process.kill()
        raise
    finally:
        for process in below(served.mark):
            process.kill()


@pytest.fixture(scope="session")
def signed_in(browser: Browser, served: Served) -> StorageState:
    """What a browser keeps that has opened the address which `up` printed."""
    context = browser.new_context()
    context.set_default_timeout(LIMIT_MS)
    context.route("**/*", stay_here)
    page = context.new_page()
    page.goto(served.sign_in)
    page.wait_for_url(re.compile("/v2/(dashboard|login)"))
    kept = context.storage_state()
    context.close()
    return kept


@pytest.fixture
def page(
    browser: Browser, served: Served, signed_in: StorageState, request: pytest.FixtureRequest
) -> Iterator[Page]:
    """A new page of the UI. With SCREENSHOTS=DIR in the environment its end is kept there."""
    context = browser.new_context(
        viewport={"width": 1400, "height": 1000}, base_url=served.url, storage_state=signed_in
    )
    context.set_default_timeout(LIMIT_MS)
    context.route("**/*", stay_here)
    found = context.new_page()
    yield found
    if folder := os.environ.get("SCREENSHOTS"):
        found.screenshot(path=Path(folder) / f"{request.node.name}.png")
    context.close()


def stay_here(route: Route) -> None:
    """Nothing is asked of another machine."""
    address = route.request.url
    if address.startswith(("http://127.0.0.1:", "data:", "blob:")):
        route.continue_()
    else:
        route.abort()
