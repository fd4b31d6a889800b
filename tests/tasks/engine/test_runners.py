"""Tasks on a Dask cluster give what threads give, and each finds what the other made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import LocalCluster
from prefect import flow
from pydantic import ValidationError

from flows.options.pipeline import PipelineResources
from flows.server.context import Session
from storage.keys.artifacts import ArtifactRef
from storage.store.store import Store
from tasks.engine.runners import NoCluster, task_runner
from tasks.engine.runtime import fan_out, reset_tallies, tallies
from tests.tasks.toy_stages import COMPUTED, NumberOptions, known, number


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """Two worker processes of one thread each."""
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=":0"
    ) as found:
        yield found


@flow(persist_result=False)
def numbers(store: str, address: str | None, count: int = 5, factor: int = 1) -> list[ArtifactRef]:
    return fan_out(
        number,
        [{"start": known(str(i))} for i in range(count)],
        workers=2,
        address=address,
        store=store,
        options=NumberOptions(factor=factor),
    )


def run(command: Session, **arguments: Any) -> tuple[list[ArtifactRef], dict[str, Any]]:
    reset_tallies()
    found: list[ArtifactRef] = command.run(numbers, **arguments)
    return found, tallies()


def test_the_same_digests_and_each_reuses_what_the_other_made(
    command: Session, cluster: LocalCluster, tmp_path: Path
) -> None:
    address = cluster.scheduler_address
    stores = [str(Store.create(tmp_path / name, min_free_bytes=0).root) for name in ("here", "there")]
    here, ran_here = run(command, store=stores[0], address=None)
    there, ran_there = run(command, store=stores[1], address=address)
    assert [ref.content_sha256 for ref in here] == [ref.content_sha256 for ref in there]
    assert [ref.key for ref in here] == [ref.key for ref in there]
    assert ran_here == ran_there == {"number": {"cached": 0, "run": 5}}
    again = [run(command, store=stores[0], address=address), run(command, store=stores[1], address=None)]
    assert [refs for refs, _ in again] == [here, there]
    assert [counts for _, counts in again] == [{"number": {"cached": 5, "run": 0}}] * 2


def test_the_tasks_run_in_the_clusters_processes(
    command: Session, cluster: LocalCluster, tmp_path: Path
) -> None:
    store = str(Store.create(tmp_path / "store", min_free_bytes=0).root)
    before = dict(COMPUTED)
    run(command, store=store, address=cluster.scheduler_address, factor=2)
    assert before == COMPUTED
    run(command, store=store, address=None, factor=3)
    assert sum(COMPUTED.values()) == sum(before.values()) + 5


def test_a_bad_input_is_the_users_there_too(command: Session, cluster: LocalCluster, tmp_path: Path) -> None:
    store = str(Store.create(tmp_path / "store", min_free_bytes=0).root)
    with pytest.raises(ValueError, match="invalid literal for int"):
        command.run(letters, store, cluster.scheduler_address)


@flow(persist_result=False)
def letters(store: str, address: str | None) -> list[ArtifactRef]:
    calls = [{"start": known("x")}, {"start": known("1")}]
    return fan_out(number, calls, workers=2, address=address, store=store, options=NumberOptions())


def test_nobody_at_the_address_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.engine.runners.CONNECT_LIMIT", "1s")
    with (
        pytest.raises(NoCluster, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9.*dask_address"),
        task_runner(2, "tcp://127.0.0.1:9"),
    ):
        pass


def test_a_cluster_without_workers_is_said() -> None:
    with (
        LocalCluster(n_workers=0, processes=True, host="127.0.0.1", dashboard_address=":0") as empty,
        pytest.raises(NoCluster, match="has no workers; start one: dask worker"),
        task_runner(2, empty.scheduler_address),
    ):
        pass


def test_the_extra_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.engine.runners.find_spec", lambda name: None)
    with pytest.raises(NoCluster, match=r"retrieval-sfm\[dask\]"), task_runner(2, "tcp://x:1"):
        pass


def test_dask_needs_an_address() -> None:
    with pytest.raises(ValidationError, match=r"set resources\.dask_address=tcp://HOST:8786"):
        PipelineResources(runner="dask")
    used = PipelineResources(runner="dask", dask_address="tcp://h:1")
    assert used.cluster == "tcp://h:1" and used.model_copy(update={"runner": "local"}).cluster is None
