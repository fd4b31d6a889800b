"""The pages before Prefect's: a ticket is good once, a report needs the key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount
from starlette.testclient import TestClient

from flows.server import sign_in
from flows.server.sign_in import TICKETS, Tickets, with_pages

KEY = "retrieval-sfm:the key"
AUTH = ("retrieval-sfm", "the key")


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "r1.html").write_text("<p>report")
    (tmp_path / "secret.html").write_text("secret")
    (tmp_path / "runs" / "r1.json").write_text("{}")
    prefect: Any = Starlette(routes=[Mount("/", PlainTextResponse("the UI"))])
    return TestClient(with_pages(prefect, KEY, tmp_path / "runs"))


def new_ticket(client: TestClient) -> str:
    return str(client.post("/sign-in/ticket", auth=AUTH).json()["ticket"])


def test_a_ticket_gives_the_key_once(client: TestClient) -> None:
    ticket = new_ticket(client)
    assert ticket not in KEY and KEY not in client.get("/sign-in").text
    answer = client.post("/sign-in", json={"ticket": ticket})
    assert answer.json() == {"key": KEY} and answer.headers["cache-control"] == "no-store"
    again = client.post("/sign-in", json={"ticket": ticket})
    assert again.status_code == 403 and "the key" not in again.text
    assert "run again: retrieval-sfm up --store STORE" in again.text


def test_tickets_are_given_to_who_has_the_key_only(client: TestClient) -> None:
    for auth in (None, ("retrieval-sfm", "another"), ("", "")):
        assert client.post("/sign-in/ticket", auth=auth).status_code == 401
    for value in (
        b"Basic",
        b"Basic ",
        b"Bearer the key",
        b"basic cmV0",
        b"Basic \x80",
        b"Basic " + b"A" * 9999,
    ):
        assert client.post("/sign-in/ticket", headers={"Authorization": value}).status_code == 401


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"ticket": 1}', b'{"ticket": "x"}', b"[" * 900, b"x" * 99_999]
)
def test_what_is_no_ticket_is_refused(client: TestClient, body: bytes) -> None:
    answer = client.post("/sign-in", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 403


def test_a_form_of_another_page_cannot_use_one(client: TestClient) -> None:
    content = f'{{"ticket": "{new_ticket(client)}"}}'
    answer = client.post("/sign-in", content=content, headers={"Content-Type": "text/plain"})
    assert answer.status_code == 403


def test_tickets_end_and_are_not_hoarded(monkeypatch: pytest.MonkeyPatch) -> None:
    tickets = Tickets()
    first = tickets.new()
    others = [tickets.new() for _ in range(TICKETS)]
    assert not tickets.use(first) and tickets.use(others[-1])
    monkeypatch.setattr(sign_in.time, "monotonic", lambda: 1e9)
    assert not tickets.use(others[0])


def test_reports_are_served_to_who_has_the_key_and_nothing_else_is(client: TestClient) -> None:
    found = client.get("/reports/r1.html", auth=AUTH)
    assert found.text == "<p>report" and found.headers["content-type"].startswith("text/html")
    assert "connect-src 'self'" in found.headers["content-security-policy"]
    for name in ("r1", "r2"):
        without = client.get(f"/reports/{name}.html")
        assert without.status_code == 401 and "<p>report" not in without.text
        assert 'localStorage.getItem("prefect-password")' in without.text
    for other in ("r2", "..%2Fsecret", "../secret", "r1.json"):
        assert "secret" not in client.get(f"/reports/{other}.html", auth=AUTH).text
    assert client.get("/reports/r2.html", auth=AUTH).status_code == 404
    assert client.get("/reports/r1.json", auth=AUTH).text == "the UI"
    assert client.get("/v2/").text == "the UI"


def test_the_manual_of_the_api_is_not_open(client: TestClient) -> None:
    for path in ("/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json"):
        assert client.get(path).status_code == 404
