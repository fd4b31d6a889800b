"""Proxies are for other machines: a run on this one asks none."""

import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.request import proxy_bypass

import httpx
import pytest

from flows.server.context import environment
from flows.server.proxies import no_proxy
from tests.flows.server.test_context import start

OWN = "localhost,127.0.0.1,::1"
"""What is always added."""


@pytest.mark.parametrize(
    ("said", "address", "expected"),
    [
        ({}, None, OWN),
        ({"NO_PROXY": "lab, .example.org"}, None, f"lab,.example.org,{OWN}"),
        ({"no_proxy": "127.0.0.1,lab"}, None, "127.0.0.1,lab,localhost,::1"),
        ({"NO_PROXY": "a", "no_proxy": "b"}, "http://10.0.0.7:4200/api", f"a,b,{OWN},10.0.0.7"),
        ({"NO_PROXY": "[::1]"}, "http://[::1]:4200/api", "::1,localhost,127.0.0.1"),
        ({"NO_PROXY": "lab,*"}, None, "*"),
    ],
)
def test_what_no_proxy_is_asked_for(said: dict[str, str], address: str | None, expected: str) -> None:
    assert no_proxy(address, said) == {"NO_PROXY": expected, "no_proxy": expected}


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY"])
def test_every_client_goes_directly(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    from websockets.proxy import get_proxy
    from websockets.uri import parse_uri

    for known in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(known, raising=False)
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    with environment({"PREFECT_API_URL": "http://10.0.0.7:4200/api"}), httpx.Client() as client:
        for host in ("localhost", "127.0.0.1", "[::1]", "10.0.0.7"):
            url = httpx.URL(f"http://{host}:4200/api")
            assert client._transport_for_url(url) is client._transport
            assert get_proxy(parse_uri(f"ws://{host}:4200/api")) is None
            assert host == "[::1]" or proxy_bypass(f"{host}:4200")
        assert name.lower() != "http_proxy" or not proxy_bypass("example.org")


@pytest.fixture
def proxy() -> Iterator[tuple[str, list[bytes]]]:
    """A proxy that refuses everything, and what it was asked."""
    asked: list[bytes] = []
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                asked.append(connection.recv(200))
                connection.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}", asked
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    thread.join(5)


def test_a_run_asks_no_proxy(proxy: tuple[str, list[bytes]], tmp_path: Path) -> None:
    address, asked = proxy
    names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
    without = {"NO_PROXY": "", "no_proxy": ""}
    command: subprocess.Popen[str] = start(tmp_path / "store", **dict.fromkeys(names, address), **without)
    output, log = command.communicate(timeout=120)
    assert command.returncode == 0, log
    assert output.startswith("total 6 ")
    assert asked == []
