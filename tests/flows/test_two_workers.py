"""Two workers on one store at the same time: the contents of a local run, and nothing is made twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks.acceptance_runs import content_digests, sidecars, small_town
from flows.options.pipeline import PipelineOptions
from flows.server.context import Session
from flows.server.deployments import POOL
from flows.server.keys import client_key_settings
from flows.server.reconcile import LABEL
from flows.server.settings import worker_settings
from storage.store import ledger
from storage.store.store import Store
from tests.ui.served import MARK, ROOT, Served, below, start, wait_until

SMALL = {
    "reconstruction": {
        "network": {"backbone": "squeezenet1_1", "weights": "random"},
        "description": {"image_size": 64},
    }
}
LIMIT_S = 480.0


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    photos = small_town(tmp_path / "photos", buildings=2, views=4, singles=1)
    with ExitStack() as stack:
        found = start(tmp_path / "store", photos)
        stack.callback(lambda: [process.kill() for process in below(found.mark)])
        yield found
        found.process.send_signal(signal.SIGINT)
        assert found.process.wait(120) == 0


def second_worker(served: Served) -> psutil.Process:
    """A worker beside that of `up`."""
    settings = worker_settings(served.store / "prefect", served.api_url) | client_key_settings(served.key)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.server.worker_process", POOL, "second", str(os.getpid())],
        env={**inherited, **settings, "PYTHONPATH": str(ROOT), MARK: served.mark},
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return psutil.Process(process.pid)


def begin(served: Served, worker: psutil.Process, other: psutil.Process) -> uuid.UUID:
    """A run that `worker` takes, because `other` is asleep."""
    other.suspend()
    try:
        with served.client() as client:
            parameters = {"options": SMALL, "until": "reconstruct"}
            deployment = served.deployment("end-to-end").id
            run = client.create_flow_run_from_deployment(deployment, parameters=parameters).id
        wait_until(lambda: served.run(run).infrastructure_pid is not None, LIMIT_S, "the run is taken")
    finally:
        other.resume()
    return run


def made(store: Path) -> Counter[str]:
    """Artifacts per stage."""
    return Counter(path.split("/")[0] for path in sidecars(store))


def local(server: Session, photos: Path, store: Path) -> Any:
    from flows.end_to_end import end_to_end

    options = PipelineOptions.model_validate(SMALL)
    return server.run(end_to_end, photos=str(photos), store=str(store), options=options, until="reconstruct")


@pytest.mark.slow
def test_two_workers_share_one_store(server: Session, served: Served, tmp_path: Path) -> None:
    from prefect.client.schemas.actions import DeploymentUpdate

    with served.client() as client:
        client.update_deployment(served.deployment("end-to-end").id, DeploymentUpdate(concurrency_limit=2))
    first = next(each for each in served.below() if "flows.server.worker_process" in each.cmdline())
    second = second_worker(served)
    asked = [begin(served, first, second), begin(served, second, first)]
    wait_until(lambda: all(served.run(run).state_name == "Completed" for run in asked), LIMIT_S, "both end")
    workers = [served.run(run).labels[LABEL] for run in asked]
    assert workers[1] == "second" and str(workers[0]).startswith("worker-")
    records = sorted(ledger.records(Store.open(served.store)), key=lambda each: each.id)
    assert len(records) == 2 and records[0].refs == records[1].refs
    here = local(server, served.photos, tmp_path / "here")
    assert content_digests(records[0]) == content_digests(here)
    assert made(served.store) == made(tmp_path / "here")  # of two that needed the same one made it
    second.terminate()
