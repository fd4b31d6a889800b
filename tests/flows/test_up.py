"""`retrieval-sfm up`: server, pool, deployments, automation and worker; one per store; gone after Ctrl-C."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from flows import deployments
from flows.deployments import AUTOMATION, POOL, DeploymentsFailed, install
from flows.keys import CLIENT_KEY, read_key
from flows.options import STAGES
from flows.server import LastingServer, PortTaken, serving
from flows.settings import prepare_home
from flows.up import AlreadyUp, Request
from flows.up import up as serve
from storage.locks import FileLock

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(["benchmark", "end-to-end", *STAGES])


@dataclass
class Up:
    """`up` in a process of its own. said: its lines."""

    store: Path
    process: subprocess.Popen[str]
    said: list[str]

    @property
    def api_url(self) -> str:
        found = serving(self.store / "prefect")
        assert found is not None
        return found

    @property
    def key(self) -> str:
        return read_key(self.store / "prefect")


def start(store: Path, *arguments: str) -> subprocess.Popen[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "up", "--store", str(store), *arguments],
        env={**inherited, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def below(store: Path) -> list[psutil.Process]:
    """Living processes of an `up` on this store: its server, its worker, what that started."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            environment = process.environ()
            mine = environment.get("PREFECT_HOME") == str(store / "prefect")
            if mine and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    store = tmp_path_factory.mktemp("served") / "a store"
    photos = tmp_path_factory.mktemp("photos")
    process = start(store, "--port", "0", "--photos", str(photos))
    said: list[str] = []
    assert process.stdout is not None
    for line in process.stdout:
        said.append(line.rstrip())
        if line.startswith("Prefect UI"):
            break
    assert process.poll() is None and said[-1:] and "Prefect UI" in said[-1], said
    yield Up(store, process, said)
    if process.poll() is None:
        process.kill()
        process.wait()


@pytest.fixture
def client(up: Up) -> Iterator[Any]:
    from prefect.client.orchestration import SyncPrefectClient

    with SyncPrefectClient(up.api_url, auth_string=up.key) as found:
        yield found


def test_the_ui_is_served_and_what_is_there_is_said(up: Up) -> None:
    import httpx

    assert up.said[-3] == f"{len(NAMES)} deployments: {', '.join(NAMES)}"
    assert up.said[-1].startswith(f"Prefect UI: {up.api_url.removesuffix('/api')} ")
    page = httpx.get(up.api_url.removesuffix("/api") + "/", follow_redirects=True, trust_env=False)
    assert page.status_code == 200 and "<title>Prefect" in page.text


def test_deployments_know_the_store_and_the_photographs_and_only_queue(up: Up, client: Any) -> None:
    found = {each.name: each for each in client.read_deployments()}
    assert sorted(found) == NAMES
    for each in found.values():
        assert each.parameters["store"] == str(up.store) and each.work_pool_name == POOL
        assert each.global_concurrency_limit.limit == 1
        assert each.concurrency_options.collision_strategy == "ENQUEUE"
        assert not any(schedule.active for schedule in each.schedules)
    assert Path(found["end-to-end"].parameters["photos"]).is_dir()
    assert found["whiten"].parameters["options"] == {}  # the form sends what was filled in


def test_silent_runs_are_noticed_within_three_minutes(client: Any) -> None:
    (automation,) = client.read_automations_by_name(AUTOMATION)
    assert automation.enabled and automation.trigger.within.total_seconds() <= 120
    assert automation.actions[0].type == "change-flow-run-state"


def test_a_second_start_keeps_what_a_person_changed(
    up: Up, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.client.schemas.actions import DeploymentScheduleUpdate, DeploymentUpdate
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

    (before,) = (each for each in client.read_deployments() if each.name == "whiten")
    (schedule,) = before.schedules
    on = DeploymentScheduleUpdate(schedule=schedule.schedule, active=True, slug=schedule.slug)
    changes = {"parameters": {**before.parameters, "force": True, "gone": 1}, "schedules": [on]}
    client.update_deployment(before.id, DeploymentUpdate(**changes))
    monkeypatch.setenv("PREFECT_API_URL", up.api_url)
    monkeypatch.setenv(CLIENT_KEY, up.key)
    with temporary_settings({PREFECT_API_URL: up.api_url, PREFECT_API_AUTH_STRING: up.key}):
        assert install({"RETRIEVAL_SFM_STORE": "/elsewhere"}) == NAMES
    after = client.read_deployment(before.id)
    assert [each.active for each in after.schedules] == [True]
    assert after.parameters == {**before.parameters, "force": True, "store": "/elsewhere"}
    assert len(client.read_automations_by_name(AUTOMATION)) == 1


def test_one_per_store_and_per_port(up: Up, tmp_path: Path) -> None:
    second = start(up.store, "--port", "0")
    output, _ = second.communicate(timeout=60)
    assert second.returncode == 2 and "is already served at http://127.0.0.1:" in output
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        taken = start(tmp_path, "--port", str(port))
        output, _ = taken.communicate(timeout=60)
        assert taken.returncode == 2 and f"port {port} of 127.0.0.1 is taken" in output
        assert "choose another --port" in output
        with pytest.raises(PortTaken):
            LastingServer(tmp_path, "127.0.0.1", port)


def test_one_at_a_time_also_while_it_starts(tmp_path: Path) -> None:
    """Not known by its address yet, and no second server on the same records."""
    home = prepare_home(tmp_path)
    with FileLock(home / "up.lock", "another"), pytest.raises(AlreadyUp, match="starting or ending"):
        serve(Request(tmp_path, port=0), print, threading.Event())
    assert not (home / "server.log").exists()


def test_a_folder_without_the_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployments, "__file__", str(tmp_path / "flows" / "deployments.py"))
    with pytest.raises(DeploymentsFailed, match=r"prefect\.yaml is not there; install from a checkout"):
        install({})


def test_ctrl_c_ends_everything(up: Up) -> None:
    """The last of this module."""
    assert {"flows.server_process", "flows.worker_process"} <= {
        word for process in below(up.store) for word in process.cmdline()
    }
    killer = threading.Timer(60, up.process.kill)
    killer.start()
    up.process.send_signal(signal.SIGINT)
    output, _ = up.process.communicate()
    killer.cancel()
    assert up.process.returncode == 0, output
    assert "ending: runs, worker, server" in output
    assert below(up.store) == [] and serving(up.store / "prefect") is None
