"""The user's own Prefect server: where it is set, and what is said of one that cannot be used."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from flows.server.configured_api import (
    VARIABLE,
    ApiUnusable,
    ConfiguredApi,
    check,
    configured_api,
    without_password,
)
from flows.server.context import Session

ROOT = Path(__file__).resolve().parents[3]
URL = 'PREFECT_API_URL = "http://{}/api"\n'


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder without settings."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def found(environment: dict[str, str]) -> tuple[str, str] | None:
    api = configured_api(environment)
    return (api.url, api.source) if api else None


def test_every_place_that_prefect_reads_in_its_order(tmp_path: Path) -> None:
    home, here = {"PREFECT_HOME": str(tmp_path / "home")}, tmp_path / "here"
    assert found(home) is None
    (tmp_path / "home").mkdir()
    profiles = tmp_path / "home" / "profiles.toml"
    profiles.write_text(f'active = "lab"\n[profiles.lab]\n{URL.format("lab")}[profiles.none]\n')
    assert found(home) == ("http://lab/api", f"profile 'lab' of {profiles}")
    assert found({**home, "PREFECT_PROFILE": "none"}) is None
    (here / "pyproject.toml").write_text('[tool.prefect.api]\nurl = "http://py/api"\n')
    assert found(home) == ("http://py/api", f"api.url in {here}/pyproject.toml")
    (here / "prefect.toml").write_text('[api]\nurl = "http://own/api"\n')
    assert found(home) == ("http://own/api", f"api.url in {here}/prefect.toml")
    (here / ".env").write_text("PREFECT_API_URL=http://dot/api\n")
    assert found(home) == ("http://dot/api", f"PREFECT_API_URL in {here}/.env")
    mine = {**home, "PREFECT_API_URL": "http://mine/api"}
    assert found(mine) == ("http://mine/api", "environment variable PREFECT_API_URL")
    assert found({**home, "PREFECT_API_URL": ""}) is None  # the way to do without all of them
    for name in ("prefect.toml", "pyproject.toml", ".env"):
        (here / name).unlink()
    profiles.write_text("not toml [")
    assert found(home) is None


@pytest.mark.parametrize("where", ["prefect.toml", "profiles.toml", ".env", "environment"])
def test_prefect_finds_the_same(tmp_path: Path, where: str) -> None:
    """So that what a command uses is what `prefect` uses."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    environment |= {"PREFECT_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
    (tmp_path / "home").mkdir()
    if where == "prefect.toml":
        Path(where).write_text('[api]\nurl = "http://one/api"\n')
    elif where == "profiles.toml":
        text = f'active = "lab"\n[profiles.lab]\n{URL.format("one")}'
        (tmp_path / "home" / where).write_text(text)
    elif where == ".env":
        Path(where).write_text("PREFECT_API_URL=http://one/api\n")
    else:
        environment["PREFECT_API_URL"] = "http://one/api"
    code = "from prefect.settings import PREFECT_API_URL; print(PREFECT_API_URL.value())"
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert run.stdout.strip() == "http://one/api"
    api = configured_api(environment)
    assert api is not None and api.url == "http://one/api"


@contextmanager
def answering(status: int, body: str, kind: str = "application/json") -> Iterator[str]:
    """An http server that answers everything so; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        do_GET = do_POST

        def log_message(self, *arguments: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/api"
        finally:
            server.shutdown()
            thread.join()


def refused(url: str, limit_s: float = 5.0) -> str:
    with pytest.raises(ApiUnusable) as raised:
        check(ConfiguredApi(url, "profile 'lab' of p.toml"), limit_s)
    text = str(raised.value)
    assert text.startswith(f"the Prefect server {without_password(url)!r} (profile 'lab' of p.toml) ")
    assert text.endswith("to do without it, write `PREFECT_API_URL= retrieval-sfm ...`")
    return text


@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        (200, "<html>a page</html>", "text/html", "not as a Prefect API does; its address ends in /api"),
        (200, json.dumps({"a": 1}), "application/json", "not as a Prefect API does"),
        (404, "", "text/html", "answers 404 Not Found where a Prefect API would know"),
        (501, "", "text/html", "answers 501 Not Implemented where a Prefect API would know"),
        (401, "", "text/html", "wants a key (401 Unauthorized): set PREFECT_API_AUTH_STRING"),
        (403, "", "text/html", "wants a key (403 Forbidden)"),
        (500, "", "text/html", "has a fault (500 Internal Server Error)"),
    ],
)
def test_what_answers_is_no_usable_prefect(
    server: Session, status: int, body: str, kind: str, message: str
) -> None:
    with answering(status, body, kind) as url:
        assert message in refused(url)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://127.0.0.1:9/api", "cannot be reached: "),
        ("http://me:secret@127.0.0.1:9/api", "cannot be reached: "),
        ("localhost:4200/api", "has no address that begins with http:// or https://"),
        ("ftp://here/api", "has no address that begins with http"),
    ],
)
def test_where_nothing_answers(server: Session, url: str, message: str) -> None:
    assert message in refused(url) and "secret" not in refused(url)


def test_silence_is_not_waited_for(server: Session) -> None:
    import socket

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        assert "does not answer within 0 s" in refused(f"http://127.0.0.1:{silent.getsockname()[1]}/api", 0.3)


def test_a_prefect_server_is_good(server: Session) -> None:
    check(ConfiguredApi(server.settings[VARIABLE], "here"))


def test_another_major_version(server: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.client.orchestration import SyncPrefectClient

    monkeypatch.setattr(SyncPrefectClient, "client_version", lambda self: "2.20.1")
    assert "is not usable: Found incompatible versions" in refused(server.settings[VARIABLE])


def test_a_dead_server_ends_the_command_before_anything_is_done(
    photos_of_nothing: Path, tmp_path: Path
) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    environment |= {"PREFECT_API_URL": "http://127.0.0.1:9/api", "PYTHONPATH": str(ROOT)}
    arguments = ["run", str(photos_of_nothing), "--store", str(tmp_path / "store")]
    run = subprocess.run(
        [sys.executable, "-m", "flows.cli.main", *arguments], env=environment, capture_output=True, text=True
    )
    assert run.returncode == 1
    (line,) = run.stderr.splitlines()
    assert line.startswith("error: the Prefect server 'http://127.0.0.1:9/api' (environment variable")
    assert line.endswith("to do without it, `unset PREFECT_API_URL`")
    assert not list((tmp_path / "store").glob("scan*/*"))


@pytest.fixture
def photos_of_nothing(tmp_path: Path) -> Path:
    from PIL import Image

    (tmp_path / "photos").mkdir()
    for name in "ab":
        Image.new("RGB", (64, 64), "red").save(tmp_path / "photos" / f"{name}.jpg")
    return tmp_path / "photos"


def test_importing_it_is_light() -> None:
    code = "import sys, flows.server.configured_api\n"
    code += "print([m for m in ('prefect', 'httpx') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
