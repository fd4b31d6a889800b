"""`retrieval-sfm up` as a process, and what its server knows of the runs."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas import filters
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import FlowRunSort

from flows.server.keys import read_key
from flows.server.server import serving

ROOT = Path(__file__).resolve().parents[2]
SMALL = {
    "reconstruction": {"description": {"image_size": 160}},
    "training": {"epochs": 2, "queries_per_epoch": 6, "image_size": 160},
    "description": {"image_size": 160},
}
"""Options with which a run of everything on the small town takes half a minute."""
MARK = "RETRIEVAL_SFM_UI_TESTS"


@dataclass
class Served:
    """`up` on a store. mark: value of MARK in the environment of every process that it started; sign_in: the
    address that it printed for a browser."""

    store: Path
    photos: Path
    process: subprocess.Popen[bytes]
    mark: str
    api_url: str
    sign_in: str

    @property
    def url(self) -> str:
        return self.api_url.removesuffix("/api")

    @property
    def key(self) -> str:
        return read_key(self.store / "prefect")

    @contextmanager
    def client(self) -> Iterator[SyncPrefectClient]:
        with SyncPrefectClient(self.api_url, auth_string=self.key) as found:
            yield found

    def deployment(self, name: str) -> DeploymentResponse:
        with self.client() as client:
            return next(each for each in client.read_deployments() if each.name == name)

    def fill_form(self, name: str, parameters: dict[str, Any]) -> None:
        """What the form of a deployment starts with."""
        from prefect.client.schemas.actions import DeploymentUpdate

        found = self.deployment(name)
        with self.client() as client:
            client.update_deployment(
                found.id, DeploymentUpdate(parameters={**found.parameters, **parameters})
            )

    def runs(self, deployment: str) -> list[FlowRun]:
        """Runs of a deployment, newest first."""
        name = filters.DeploymentFilter(name=filters.DeploymentFilterName(any_=[deployment]))
        with self.client() as client:
            return client.read_flow_runs(
                deployment_filter=name, sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=200
            )

    def run(self, id: uuid.UUID) -> FlowRun:
        with self.client() as client:
            return client.read_flow_run(id)

    def tasks(self, run: uuid.UUID) -> Counter[tuple[str, str]]:
        """(task, state) of the task runs of a flow run."""
        owner = filters.FlowRunFilter(id=filters.FlowRunFilterId(any_=[run]))
        with self.client() as client:
            found = client.read_task_runs(flow_run_filter=owner, limit=200)
        return Counter((each.name.rsplit("-", 1)[0], str(each.state_name)) for each in found)

    def below(self) -> list[psutil.Process]:
        return below(self.mark)


def start(store: Path, photos: Path) -> Served:
    """`up` on a free port, ready."""
    mark = uuid.uuid4().hex
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.cli.main", "up", "--store", store, "--port", "0", "--photos", photos],
        env={**inherited, "PYTHONPATH": str(ROOT), "PREFECT_WORKER_QUERY_SECONDS": "1", MARK: mark},
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )
    said = read_until(process, b"Prefect UI")
    api_url = serving(store / "prefect")
    assert api_url is not None, said
    return Served(store, photos, process, mark, api_url, said[-2].decode().split()[-1])


def read_until(process: subprocess.Popen[bytes], wanted: bytes) -> list[bytes]:
    """The lines of a process up to one that begins with `wanted`, or to its end."""
    said: list[bytes] = []
    assert process.stdout is not None
    for line in process.stdout:
        said.append(line)
        if line.startswith(wanted):
            break
    return said


def below(mark: str) -> list[psutil.Process]:
    """Living processes with this mark."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def locked(store: Path) -> list[str]:
    """Keys of a store whose lock somebody holds."""
    held = []
    for path in (store / "locks").glob("*.lock"):
        with path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                held.append(path.name)
    return held


def wait_until(condition: Callable[[], bool], limit_s: float, what: str) -> None:
    """Returns when `condition` holds; fails after `limit_s`."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {limit_s:.0f} s: {what}"
        time.sleep(0.2)
