"""What a server of ours answers, by the name it is asked under and by the page that asks."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from flows.server.guard import Guard, name_of, own_names

WHO = {"host": "127.0.0.1:4200"}
LINK = {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}


def ask(guard: Guard, headers: dict[str, str], kind: str = "http", **scope: Any) -> list[dict[str, Any]]:
    """What is sent for a request."""
    sent: list[dict[str, Any]] = []
    pairs = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    request = {"type": kind, "method": "GET", "path": "/api/flows", "headers": pairs, **scope}

    async def receive() -> dict[str, Any]:
        raise AssertionError("nothing is read before it is allowed")

    async def send(message: Any) -> None:
        sent.append(dict(message))

    asyncio.run(guard(request, receive, send))
    return sent


async def answering(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
    else:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"secret"})


def status(
    headers: dict[str, str], host: str = "127.0.0.1", names: tuple[str, ...] = (), **scope: Any
) -> int:
    return int(ask(Guard(answering, host, names), headers, **scope)[0]["status"])


@pytest.mark.parametrize(
    "name", ["127.0.0.1:4200", "localhost:4200", "LOCALHOST", "[::1]:4200", "localhost.:1"]
)
def test_its_own_names_are_answered(name: str) -> None:
    assert status({"host": name}) == 200


@pytest.mark.parametrize(
    "name",
    [
        "evil.test", "evil.test:4200", "127.0.0.1.evil.test", "localhost.evil.test", "evil.test@127.0.0.1",
        "10.0.0.1", "127.0.0.1, evil.test", "0.0.0.0:4200", "[::ffff:127.0.0.1]", "", " ", "127.0.0.1:4200/x",
        "local\xadhost", "xlocalhost", "2130706433",
    ],
)  # fmt: skip
def test_other_names_are_refused(name: str) -> None:
    assert status({"host": name}) == 421
    assert ask(Guard(answering, "127.0.0.1"), {"host": name}, "websocket") == [
        {"type": "websocket.close", "code": 1008}
    ]


def test_a_request_without_a_name_or_with_two_is_refused() -> None:
    assert status({}) == 421
    assert status({"host": "127.0.0.1", "Host": "evil.test"}) == 421
    assert status({"host": "127.0.0.1", "Host": "127.0.0.1"}) == 421


def test_where_all_addresses_are_listened_on_numbers_and_the_machines_names_are_answered() -> None:
    for name in ("192.168.1.7:4200", "[fe80::1]:4200", *own_names()):
        assert status({"host": name}, "0.0.0.0") == 200, name
        assert status({"host": f"{name}.evil.test"}, "0.0.0.0") == 421
    assert status({"host": "lab.example:80"}, "0.0.0.0") == 421
    assert status({"host": "Lab.Example:80"}, "0.0.0.0", ("lab.example",)) == 200
    assert status({"host": "lab.example"}, names=("lab.example.",)) == 200


@pytest.mark.parametrize(
    "origin",
    [
        "http://127.0.0.1:9999",
        "http://localhost:4200",
        "null",
        "",
        "https://evil.test",
        "file://",
        "http://127.0.0.1",
    ],
)
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_pages_of_another_origin_are_refused(origin: str, kind: str) -> None:
    for method in ("GET", "POST", "OPTIONS", "HEAD"):
        sent = ask(Guard(answering, "127.0.0.1"), {**WHO, "origin": origin}, kind, method=method)
        assert "accept" not in str(sent) and b"secret" not in sent[-1].get("body", b"")
        assert sent[0].get("status", 403) == 403
        assert not [name for name, _ in sent[0].get("headers", ()) if name.startswith(b"access-control")]


def test_its_own_pages_are_answered_also_behind_a_proxy_with_a_name() -> None:
    assert status({**WHO, "origin": "http://127.0.0.1:4200", "sec-fetch-site": "same-origin"}) == 200
    assert status({**WHO, "origin": "https://lab.example"}, names=("lab.example",)) == 200
    assert status({**WHO, "origin": "https://other.example"}, names=("lab.example",)) == 403
    assert ask(Guard(answering, "127.0.0.1"), {**WHO, "origin": "http://127.0.0.1:4200"}, "websocket") == [
        {"type": "websocket.accept"}
    ]


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_what_other_pages_embed_is_refused_a_link_is_followed(site: str) -> None:
    """An image, a script or a frame brings no Origin; another port of one machine is the same site."""
    for kind in ("image", "script", "iframe", "style", "empty"):
        embedded = {**WHO, "sec-fetch-site": site, "sec-fetch-mode": "no-cors", "sec-fetch-dest": kind}
        assert status(embedded) == 403
        framed = {**embedded, "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"}
        assert status(framed, path="/v2/") == 403
    link = {**WHO, **LINK, "sec-fetch-site": site}
    assert status(link, path="/v2/deployments") == 200
    assert status(link, path="/api/flows") == 403
    assert status(link, path="/v2/", method="POST") == 403
    assert status({**WHO, **LINK, "sec-fetch-site": "none"}) == 200


def test_every_answer_says_that_it_is_not_for_others() -> None:
    for headers in (WHO, {"host": "evil.test"}):
        sent = dict(ask(Guard(answering, "127.0.0.1"), headers)[0]["headers"])
        assert (
            sent[b"x-frame-options"] == b"DENY"
            and b"frame-ancestors 'none'" in sent[b"content-security-policy"]
        )
        assert sent[b"cross-origin-resource-policy"] == b"same-origin"


def test_a_name_in_a_message_cannot_be_more_than_a_name() -> None:
    for name in ("<script>", "a b", "\x1b[31m", "evil.test\r\nset-cookie: x"):
        body = ask(Guard(answering, "127.0.0.1"), {"host": name})[1]["body"]
        assert b"--name NAME" in body and name.encode("latin-1") not in body
    assert name_of("evil.test:80") == "evil.test" and name_of("a/b") is None
