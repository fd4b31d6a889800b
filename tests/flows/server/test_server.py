"""The temporary server: it answers, it ends with its command however that ends, two share a store."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import psutil
import pytest
from prefect.client.orchestration import SyncPrefectClient

from flows.server.children import identity
from flows.server.process import is_own
from flows.server.reconcile import killed_commands, registered
from flows.server.server import (
    RESTARTS,
    ServerFailed,
    TemporaryServer,
    stop_orphans,
)
from flows.server.settings import StoreNotWritable, lasting_server_settings, prepare_home, server_settings
from tests.flows.server.running import temporary_server

ROOT = Path(__file__).resolve().parents[3]


def wait_until(condition: Callable[[], bool], limit_s: float) -> float:
    """Seconds until `condition` holds; fails after `limit_s`."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < limit_s, f"not within {limit_s} s"
        time.sleep(0.02)
    return time.monotonic() - start


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store whose database exists, made by one run of the server."""
    root = tmp_path_factory.mktemp("store")
    with temporary_server(root) as server, urlopen(f"{server.api_url}/health") as answer:
        assert answer.status == 200
        assert json.loads((root / "prefect" / "servers" / f"{server.process.pid}.json").read_text())
    assert server.process.returncode is not None
    assert not list((root / "prefect" / "servers").iterdir())
    return root


def test_it_listens_on_the_loopback_interface_only(store: Path) -> None:
    with temporary_server(store) as server:
        listening = [
            c for c in psutil.Process(server.process.pid).net_connections("inet") if c.status == "LISTEN"
        ]
        assert [(c.laddr.ip, c.laddr.port) for c in listening] == [("127.0.0.1", server.port)]


def test_two_at_once_on_one_store(store: Path) -> None:
    first, second = TemporaryServer(store), TemporaryServer(store)
    try:
        first.wait()
        second.wait()
        assert first.port != second.port
        assert first.process.poll() is None
    finally:
        first.stop()
        second.stop()


def test_a_server_that_ends_by_itself_is_started_again_and_requests_wait(store: Path) -> None:
    with temporary_server(store) as server:
        server.keep_running()
        for number in (signal.SIGTERM, signal.SIGKILL):
            before = server.process
            before.send_signal(number)
            wait_until(lambda before=before: before.poll() is not None, 30.0)  # type: ignore[misc]
            with urlopen(f"{server.api_url}/health", timeout=60.0) as answer:
                assert answer.status == 200
            assert server.process.pid != before.pid
            assert [path.name for path in (store / "prefect" / "servers").iterdir()] == [
                f"{server.process.pid}.json"
            ]
    assert server.process.returncode is not None
    assert not list((store / "prefect" / "servers").iterdir())


def test_a_server_that_always_ends_is_given_up(store: Path) -> None:
    with temporary_server(store) as server:
        server.keep_running()
        for number in range(RESTARTS + 1):
            before = server.process
            before.kill()
            before.wait()
            if number < RESTARTS:
                wait_until(lambda before=before: server.process is not before, 30.0)  # type: ignore[misc]
        with pytest.raises(URLError):
            wait_until(lambda: bool(urlopen(f"{server.api_url}/health", timeout=1.0)), 30.0)


OWNER = """
import sys, time
from pathlib import Path
from flows.server.server import TemporaryServer
server = TemporaryServer(Path(sys.argv[1]))
if sys.argv[2] == "ready":
    server.wait()
print(server.process.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("moment", ["starting", "ready"])
def test_it_ends_within_a_second_of_a_killed_command(store: Path, moment: str) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(store), moment], stdout=subprocess.PIPE, cwd=ROOT, text=True
    )
    assert owner.stdout is not None
    server = int(owner.stdout.readline())
    assert psutil.pid_exists(server)
    owner.kill()
    owner.wait()
    wait_until(lambda: not alive(server), 1.5)
    stop_orphans(prepare_home(store))
    assert not list((store / "prefect" / "servers").iterdir())


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_an_orphan_is_killed_by_the_next_command(tmp_path: Path) -> None:
    home = prepare_home(tmp_path)
    orphan = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    owner = identity(gone.pid)
    gone.wait()
    (home / "servers").mkdir()
    record = {"server": identity(orphan.pid), "owner": owner, "machine": os.uname().nodename}
    (home / "servers" / "1.json").write_text(json.dumps(record))
    assert stop_orphans(home) == [orphan.pid]
    assert orphan.wait(5) == -signal.SIGKILL
    assert stop_orphans(home) == []


def test_servers_of_living_commands_other_machines_and_reused_ids_are_left_alone(tmp_path: Path) -> None:
    home = prepare_home(tmp_path)
    (home / "servers").mkdir()
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        here, me, it = os.uname().nodename, identity(os.getpid()), identity(other.pid)
        dead = {"pid": 1, "started": "an earlier boot/1"}
        for i, record in enumerate(
            [
                {"server": it, "owner": me, "machine": here},
                {"server": it, "owner": dead, "machine": "elsewhere"},
                {"server": {**it, "started": f"{it['started']}0"}, "owner": dead, "machine": here},
            ]
        ):
            (home / "servers" / f"{i}.json").write_text(json.dumps(record))
        (home / "servers" / "bad.json").write_text("{")
        assert stop_orphans(home) == []
        assert other.poll() is None
        assert sorted(p.name for p in (home / "servers").iterdir()) == ["0.json", "1.json"]
    finally:
        other.kill()
        other.wait()


def test_a_server_that_cannot_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE", "none")
    with (
        pytest.raises(ServerFailed, match=r"(?s)ended with code 1; log: .*server\.log.*valid integer"),
        temporary_server(tmp_path),
    ):
        pass


def test_a_limit_ends_the_wait_and_the_server(store: Path) -> None:
    server = TemporaryServer(store)
    with pytest.raises(ServerFailed, match="did not answer within 0 s"):
        server.wait(0.1)
    assert server.process.returncode is not None


def test_a_folder_that_cannot_be_written_is_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreNotWritable, match=r"file/prefect: Not a directory; .* choose another --store"):
        TemporaryServer(tmp_path / "file")


@pytest.mark.parametrize(
    "name", ["PREFECT_API_DATABASE_CONNECTION_URL", "PREFECT_SERVER_DATABASE_CONNECTION_URL"]
)
def test_the_users_database_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    own = "PREFECT_API_DATABASE_CONNECTION_URL"
    monkeypatch.delenv(name, raising=False)
    for settings in (server_settings(tmp_path), lasting_server_settings(tmp_path, "127.0.0.1", 4200)):
        assert settings[own] == f"sqlite+aiosqlite:///{tmp_path}/prefect.db"
    monkeypatch.setenv(name, "postgresql+asyncpg://db/prefect")
    for settings in (server_settings(tmp_path), lasting_server_settings(tmp_path, "127.0.0.1", 4200)):
        assert not {own, "PREFECT_SERVER_DATABASE_CONNECTION_URL"} & set(settings)


def test_the_users_database_is_made_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another SQLite file stands for Postgres: a database that is not the store's own, and still empty."""
    theirs = tmp_path / "theirs.db"
    monkeypatch.setenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", f"sqlite+aiosqlite:///{theirs}")
    with (
        temporary_server(tmp_path / "store", limit_s=300) as server,  # tables are made one by one
        SyncPrefectClient(server.api_url, auth_string=server.key) as client,
    ):
        assert client.read_flow_runs() == []
    assert theirs.exists() and not (tmp_path / "store" / "prefect" / "prefect.db").exists()


@pytest.mark.parametrize(
    ("url", "own"),
    [
        ("sqlite+aiosqlite:////s/prefect/prefect.db", True),
        ("sqlite+aiosqlite:////s/prefect/prefect.db?timeout=60", True),
        ("sqlite+aiosqlite:////s/prefect/other.db", False),
        ("postgresql+asyncpg://me:secret@db/prefect", False),
        ("postgresql+asyncpg:////s/prefect/prefect.db", False),
    ],
)
def test_the_stores_own_database_is_known_from_its_address(url: str, own: bool) -> None:
    assert is_own(url, Path("/s/prefect/prefect.db")) == own


def test_commands_that_were_killed_are_known_living_ones_are_not(tmp_path: Path) -> None:
    with registered(tmp_path) as tag:
        assert killed_commands(tmp_path) == []
        path = tmp_path / "commands" / f"{tag}.json"
        record = json.loads(path.read_text())
        path.write_text(json.dumps({**record, "owner": {**record["owner"], "started": ""}}))
        assert killed_commands(tmp_path) == [tag]
        path.write_text("{")
        assert killed_commands(tmp_path) == [tag]
        path.write_text(json.dumps({**record, "machine": "elsewhere", "owner": {"pid": 1, "started": ""}}))
        assert killed_commands(tmp_path) == []
    assert not path.exists()
