"""`retrieval-sfm up`: server, pool, deployments, automation and worker; one per store; gone after Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from flows.options.stages import STAGES
from flows.server import deployments
from flows.server.deployments import AUTOMATION, POOL, TEMPLATE, DeploymentsFailed, install
from flows.server.keys import CLIENT_KEY, SERVER_KEY, read_key
from flows.server.server import LastingServer, PortTaken, serving
from flows.server.settings import prepare_home
from flows.server.up import AlreadyUp, Request
from flows.server.up import up as serve
from storage.files.locks import FileLock
from tests.ui.served import wait_until

ROOT = Path(__file__).resolve().parents[3]
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


def without_prefect() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}


def start(store: Path, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "flows.cli.main", "up", "--store", str(store), *arguments],
        env={**without_prefect(), "PYTHONPATH": str(ROOT), **variables},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def up_to_its_address(process: subprocess.Popen[str]) -> list[str]:
    """What it says until it is there."""
    said: list[str] = []
    assert process.stdout is not None
    for line in process.stdout:
        said.append(line.rstrip())
        if line.startswith("Prefect UI"):
            break
    assert process.poll() is None and said[-1:] and "Prefect UI" in said[-1], said
    return said


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
    yield Up(store, process, up_to_its_address(process))
    if process.poll() is None:
        process.kill()
        process.wait()


@pytest.fixture
def client(up: Up) -> Iterator[Any]:
    from prefect.client.orchestration import SyncPrefectClient

    with SyncPrefectClient(up.api_url, auth_string=up.key) as found:
        yield found


@contextmanager
def asking(up: Up, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Prefect's clients of this process and of its children ask this `up`."""
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

    monkeypatch.setenv("PREFECT_API_URL", up.api_url)
    monkeypatch.setenv(CLIENT_KEY, up.key)
    with temporary_settings({PREFECT_API_URL: up.api_url, PREFECT_API_AUTH_STRING: up.key}):
        yield


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

    (before,) = (each for each in client.read_deployments() if each.name == "whiten")
    (schedule,) = before.schedules
    on = DeploymentScheduleUpdate(schedule=schedule.schedule, active=True, slug=schedule.slug)
    changes = {"parameters": {**before.parameters, "force": True, "gone": 1}, "schedules": [on]}
    client.update_deployment(before.id, DeploymentUpdate(**changes))
    with asking(up, monkeypatch):
        assert install({"RETRIEVAL_SFM_STORE": "/elsewhere"}) == NAMES
    after = client.read_deployment(before.id)
    assert [each.active for each in after.schedules] == [True]
    assert after.parameters == {**before.parameters, "force": True, "store": "/elsewhere"}
    assert len(client.read_automations_by_name(AUTOMATION)) == 1


BROUGHT = (
    {"command": "touch x"},
    {"env": {"PATH": "/tmp"}},
    {"env.PATH": "/tmp"},
    {"working_dir": "/tmp"},
    {"stream_output": False},
)


@pytest.mark.parametrize("brought", BROUGHT)
def test_a_run_brings_no_command_environment_or_folder(client: Any, brought: dict[str, Any]) -> None:
    """Neither by itself nor by its deployment, which Prefect looks at when a run of it is asked for."""
    from prefect.client.schemas.actions import DeploymentUpdate
    from prefect.exceptions import PrefectHTTPStatusError

    whiten = next(each for each in client.read_deployments() if each.name == "whiten")
    before = asked_for(client)
    with pytest.raises(PrefectHTTPStatusError, match="422"):
        client.create_flow_run_from_deployment(whiten.id, job_variables=brought)
    client.update_deployment(whiten.id, DeploymentUpdate(job_variables=brought))
    with pytest.raises(PrefectHTTPStatusError, match="422"):
        client.create_flow_run_from_deployment(whiten.id)
    client.update_deployment(whiten.id, DeploymentUpdate(job_variables={}))
    assert asked_for(client) == before


def asked_for(client: Any) -> set[Any]:
    """The runs that somebody made; those that a schedule makes come and go by themselves."""
    return {run.id for run in client.read_flow_runs() if not run.auto_scheduled}


def test_the_worker_refuses_what_a_changed_pool_lets_in(
    up: Up, client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second line; the next start of `up` mends the pool."""
    from prefect.client.schemas.actions import WorkPoolUpdate
    from prefect.workers.process import ProcessWorker

    template = ProcessWorker.get_default_base_job_template()
    client.update_work_pool(POOL, WorkPoolUpdate(base_job_template=template))
    whiten = next(each for each in client.read_deployments() if each.name == "whiten")
    run = client.create_flow_run_from_deployment(
        whiten.id, job_variables={"command": f"touch {tmp_path / 'x'}"}
    ).id
    wait_until(lambda: client.read_flow_run(run).state.is_final(), 120, "the run is refused")
    state = client.read_flow_run(run).state
    assert state.is_crashed() and "RunRefused: the run brings its own command" in state.message
    assert not list(tmp_path.iterdir())
    with asking(up, monkeypatch):
        assert install({"RETRIEVAL_SFM_STORE": str(up.store)}) == NAMES
    assert client.read_work_pool(POOL).base_job_template == TEMPLATE


def test_without_the_key_nothing_is_answered_but_that_it_is_there(up: Up) -> None:
    import httpx

    place = up.api_url.removesuffix("/api")
    with httpx.Client(trust_env=False, base_url=place, timeout=60) as anybody:
        known = anybody.get("/api/openapi.json", auth=tuple(up.key.split(":", 1)))
        assert len(known.json()["paths"]) > 100
        for path, methods in known.json()["paths"].items():
            for method in methods:
                answer = anybody.request(method, f"/api{path}" if not path.startswith("/api") else path)
                if path.removeprefix("/api") not in ("/health", "/ready"):
                    assert answer.status_code in (401, 403), (method, path)
        for path in ("/api/docs", "/api/static/prefect-logo-mark-gradient.png", "/reports/r.html"):
            assert anybody.get(path).status_code == 401
        assert set(anybody.get("/ui-settings").json()) == {
            "api_url", "csrf_enabled", "auth", "flags", "default_ui", "available_uis", "v1_base_url",
            "v2_base_url",
        }  # fmt: skip
        for headers in ({"Host": "evil.test"}, {"Origin": "http://127.0.0.1:1"}, {"Origin": "null"}):
            assert anybody.get("/api/health", headers=headers).status_code in (421, 403)


def test_plain_prefect_commands_work_with_what_is_printed(up: Up) -> None:
    shell = f"eval \"$({sys.executable} -m flows.cli.main store environment '{up.store}')\" && "
    done = subprocess.run(
        ["bash", "-c", f"{shell} {sys.executable} -m prefect deployment inspect whiten/whiten -o json"],
        env={**without_prefect(), "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and json.loads(done.stdout)["work_pool_name"] == POOL, done.stderr


def test_one_per_store_and_per_port(up: Up, tmp_path: Path) -> None:
    second = start(up.store, "--port", "0")
    output, _ = second.communicate(timeout=60)
    assert second.returncode == 2 and "is already served at http://127.0.0.1:" in output
    assert "; sign in with a browser: http://127.0.0.1:" in output and up.key not in output
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        taken = start(tmp_path, "--port", str(port))
        output, _ = taken.communicate(timeout=60)
        assert taken.returncode == 2 and f"port {port} of 127.0.0.1 is taken" in output
        assert "choose another --port" in output
        with pytest.raises(PortTaken):
            LastingServer(tmp_path, "127.0.0.1", port)


def test_the_users_key_is_the_servers_and_is_written_nowhere(tmp_path: Path) -> None:
    """Under all addresses, as in the container; under a foreign name still nothing."""
    import httpx

    secret, store = "me:a secret of mine", tmp_path / "store"
    more = {SERVER_KEY: secret, "RETRIEVAL_SFM_NAMES": "lab.example"}
    process = start(store, "--port", "0", "--host", "0.0.0.0", **more)
    try:
        said = up_to_its_address(process)
        place = str(serving(store / "prefect")).removesuffix("/api")
        with httpx.Client(trust_env=False, base_url=place, timeout=60) as client:
            for name in ("lab.example", socket.gethostname(), "10.1.2.3", "evil.test"):
                host = {"Host": f"{name}:80"}
                answer = client.get("/api/version", headers=host, auth=("me", "a secret of mine"))
                assert answer.status_code == (421 if name == "evil.test" else 200), name
            assert client.get("/api/version").status_code == 401
        assert not (store / "prefect" / "key").exists() and secret not in "".join(said)
        process.send_signal(signal.SIGINT)
        said.append(process.communicate(timeout=60)[0])
    finally:
        process.kill()
        process.communicate()
    held = [path for path in store.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
    assert held == [] and secret not in "".join(said)


def test_one_at_a_time_also_while_it_starts(tmp_path: Path) -> None:
    """Not known by its address yet, and no second server on the same records."""
    home = prepare_home(tmp_path)
    with FileLock(home / "up.lock", "another"), pytest.raises(AlreadyUp, match="starting or ending"):
        serve(Request(tmp_path, port=0), print, threading.Event())
    assert not (home / "server.log").exists()


def test_a_folder_without_the_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployments, "ROOT", tmp_path)
    with pytest.raises(DeploymentsFailed, match=r"prefect\.yaml is not there; install from a checkout"):
        install({})


def test_ctrl_c_ends_everything(up: Up) -> None:
    """The last of this module."""
    assert {"flows.server.process", "flows.server.worker_process"} <= {
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
