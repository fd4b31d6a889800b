"""A page of another origin, while a person is signed in: it reads nothing and starts nothing.

Two such pages: one from another port of this machine, and one under a name that was made to point here.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from flows.server.access import sign_in_address
from tests.programs import BROWSER
from tests.ui.conftest import ARGUMENTS, LIMIT_MS
from tests.ui.served import Served

if "CI" not in os.environ:
    pytest.importorskip("playwright.sync_api", reason="no playwright to drive a browser with: make install")
from playwright.sync_api import Browser, Page, StorageState, expect

pytestmark = pytest.mark.ui

FOREIGN = "evil.test"
ATTACK = Path(__file__).with_name("another_page.js").read_text()


class Plain(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>another</title><body></body>")

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def other_port() -> Iterator[int]:
    """Another server of this machine, with an empty page."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Plain) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.fixture
def rebound(browser: Browser, signed_in: StorageState) -> Iterator[Page]:
    """A page of a browser that is signed in, and for which a foreign name points to this machine."""
    rules = f"--host-resolver-rules=MAP {FOREIGN} 127.0.0.1"
    found = browser.browser_type.launch(executable_path=BROWSER, args=[*ARGUMENTS, rules])
    context = found.new_context(storage_state=signed_in)
    context.set_default_timeout(LIMIT_MS)
    yield context.new_page()
    found.close()


def known(served: Served) -> dict[str, Any]:
    """What the server knows that a page could have changed."""
    with served.client() as client:
        return {
            "runs": {run.id for run in client.read_flow_runs(limit=200)},
            "artifacts": {each.id for each in client.read_artifacts()},
            "pools": [(pool.name, pool.base_job_template) for pool in client.read_work_pools()],
            "deployments": {
                (each.id, each.entrypoint, str(each.job_variables)) for each in client.read_deployments()
            },
        }


def attack(page: Page, served: Served, target: str) -> dict[str, str]:
    """What a page got to see of a server."""
    read = page.evaluate(ATTACK, [target, str(served.deployment("whiten").id)])
    page.wait_for_timeout(1000)
    assert len(read) > 60
    return {name: value for name, value in read.items() if value is not None}


def test_a_page_of_another_port_reads_nothing_and_starts_nothing(
    page: Page, served: Served, other_port: int
) -> None:
    before = known(served)
    own = f"http://127.0.0.1:{other_port}"
    page.goto(own)
    assert attack(page, served, served.url) == {}
    assert known(served) == before
    assert "another" in attack(page, served, own)["get /api/health cors"]  # it would have been seen
    page.goto(f"{served.url}/v2/deployments")  # a link is followed, and the person is still signed in
    page.get_by_role("row", name="whiten").wait_for()


def test_a_page_under_a_foreign_name_reads_nothing_and_starts_nothing(
    rebound: Page, served: Served, other_port: int
) -> None:
    before = known(served)
    port = served.url.rsplit(":", 1)[1]
    there = f"http://{FOREIGN}:{port}"
    answer = rebound.goto(f"{there}/v2/")
    assert answer is not None and answer.status == 421
    assert "does not answer to the name evil.test" in rebound.inner_text("body")
    assert attack(rebound, served, there) == {}
    rebound.goto(f"http://{FOREIGN}:{other_port}")
    for target in (there, served.url):
        assert attack(rebound, served, target) == {}
    assert known(served) == before


def test_a_person_signs_in_once_and_is_in_both_uis(browser: Browser, served: Served) -> None:
    """By the address that a second `up` prints: the first one is used."""
    address = sign_in_address(served.api_url, served.key)
    context = browser.new_context(base_url=served.url)
    context.set_default_timeout(LIMIT_MS)
    page = context.new_page()
    page.goto("/v2/deployments")
    page.wait_for_url("**/v2/login**")
    page.goto("/deployments")
    page.wait_for_url("**/login?redirect=**")
    report = f"/reports/{latest_report(served)}.html"
    page.goto(report)
    expect(page.get_by_text("not signed in; open the address")).to_be_visible()
    page.goto(address)
    page.wait_for_url("**/v2/dashboard**")
    # Prefect's page asks the server whether the key is good and forgets it where that request is cut off
    expect(page.get_by_role("link", name="Deployments").first).to_be_visible()
    ticket = address.partition("#")[2]
    assert ticket not in page.evaluate(
        "[location.href, JSON.stringify(localStorage), document.cookie].join()"
    )
    for ui in ("/v2/deployments", "/deployments"):
        page.goto(ui)
        expect(page.get_by_text("whiten").first).to_be_visible()
    page.goto(report)
    expect(page).to_have_title("a report")
    expect(page.get_by_text("written by its script")).to_be_visible()
    page.goto("about:blank")
    page.goto(address)
    expect(page.get_by_text("this address was used")).to_be_visible()
    context.close()


def latest_report(served: Served) -> str:
    """A report with a script, as ours have them."""
    path = served.store / "runs" / "a-report.html"
    path.parent.mkdir(exist_ok=True)
    script = "document.querySelector('p').textContent = 'written by its script'"
    path.write_text(f"<!doctype html><title>a report</title><p></p><script>{script}</script>")
    return path.stem
