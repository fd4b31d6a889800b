"""What Prefect shows of killed processes becomes Crashed; what lives, or runs again, is left alone."""

import json
import os
import socket
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from prefect import flow, task
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State
from prefect.states import Cancelling, Completed, Crashed, Failed, Pending, Running

from flows.server import reconcile as module
from flows.server.children import identity
from flows.server.context import Session
from flows.server.reconcile import FLOW_RUN, LABEL, WORKER, reconcile, register_worker, registered, supervise

DEAD = {"pid": 1, "started": "an earlier boot/1"}


@flow(name="dead")
def dead_flow() -> None: ...


@task(name="dead")
def dead_task() -> None: ...


@dataclass
class Runs:
    """Makes runs in Prefect's records without running anything."""

    client: SyncPrefectClient
    home: Path

    def flow_run(
        self, state: State, tags: tuple[str, ...] = (), parent: uuid.UUID | None = None
    ) -> uuid.UUID:
        run = self.client.create_flow_run(dead_flow, tags=tags, parent_task_run_id=parent)
        self.client.set_flow_run_state(run.id, state, force=True)
        return run.id

    def task_run(self, owner: uuid.UUID, state: State) -> uuid.UUID:
        run = self.client.create_task_run(dead_task, flow_run_id=owner, dynamic_key=uuid.uuid4().hex)
        self.client.set_task_run_state(run.id, state, force=True)
        return run.id

    def record(self, name: str, owner: dict[str, int | str], machine: str = "", **facts: int) -> Path:
        path = self.home / "commands" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        record = {"owner": owner, "machine": machine or socket.gethostname(), **facts}
        path.write_text(json.dumps(record))
        return path

    def flow_state(self, run: uuid.UUID) -> str | None:
        return self.client.read_flow_run(run).state_name

    def task_state(self, run: uuid.UUID) -> str | None:
        return self.client.read_task_run(run).state_name


def refuse(home: Path) -> int:
    raise httpx.ConnectError("nobody there")


@pytest.fixture
def runs(server: Session, tmp_path: Path) -> Iterator[Runs]:
    with get_client(sync_client=True) as client:
        yield Runs(client, tmp_path)


def test_everything_of_a_killed_command_has_crashed(runs: Runs) -> None:
    tag = f"command-{uuid.uuid4().hex[:12]}"
    mine, other = runs.flow_run(Running(), (tag,)), runs.flow_run(Running(), ("command-other",))
    done, going = runs.task_run(mine, Completed()), runs.task_run(mine, Running())
    ended, theirs = runs.flow_run(Failed(), (tag,)), runs.task_run(other, Running())
    record = runs.record(tag, DEAD)
    assert reconcile(runs.home) == 2
    assert [runs.flow_state(each) for each in (mine, other, ended)] == ["Crashed", "Running", "Failed"]
    assert [runs.task_state(each) for each in (done, going, theirs)] == ["Completed", "Crashed", "Running"]
    assert not record.exists()
    assert reconcile(runs.home) == 0


def test_a_killed_run_of_a_worker_ends_with_its_sub_flows(runs: Runs) -> None:
    whole = runs.flow_run(Running())
    dummy = runs.task_run(whole, Running())
    below = runs.flow_run(Running(), parent=dummy)
    task_below = runs.task_run(below, Running())
    runs.record(f"{FLOW_RUN}{whole}", DEAD)
    assert reconcile(runs.home) == 4
    assert [runs.flow_state(each) for each in (whole, below)] == ["Crashed"] * 2
    assert [runs.task_state(each) for each in (dummy, task_below)] == ["Crashed"] * 2


def test_what_was_being_cancelled_is_cancelled(runs: Runs) -> None:
    run = runs.flow_run(Running())
    runs.record(f"{FLOW_RUN}{run}", DEAD, attempt=1)
    runs.client.set_flow_run_state(run, Cancelling(), force=True)
    reconcile(runs.home)
    assert runs.flow_state(run) == "Cancelled"


def test_a_retry_that_has_not_registered_yet_goes_on(runs: Runs) -> None:
    """The record is of the first attempt, which was killed; the second began to run after it, whatever the
    clock says."""
    run = runs.flow_run(Running())
    for attempt, ended in ((1, 0), (2, 1)):
        if attempt == 1:
            runs.client.set_flow_run_state(run, Crashed(), force=True)
            runs.client.set_flow_run_state(run, Running(), force=True)
        record = runs.record(f"{FLOW_RUN}{run}", DEAD, attempt=attempt)
        os.utime(record, (2**32, 2**32) if attempt == 1 else (0, 0))
        assert reconcile(runs.home) == ended
        assert runs.flow_state(run) == ("Crashed" if ended else "Running") and not record.exists()


def test_what_a_dead_worker_had_taken_does_not_wait_for_ever(runs: Runs) -> None:
    """Taken and not begun, a run would hold its deployment's only slot."""
    worker, other = f"{WORKER}here-{uuid.uuid4().hex[:8]}", f"{WORKER}there-{uuid.uuid4().hex[:8]}"
    taken, begun, theirs = (runs.flow_run(state) for state in (Pending(), Running(), Pending()))
    for run, name in ((taken, worker), (begun, worker), (theirs, other)):
        runs.client.update_flow_run_labels(run, {LABEL: name})
    register_worker(runs.home, worker, os.getpid())
    assert reconcile(runs.home) == 0 and runs.flow_state(taken) == "Pending"
    record = runs.record(worker, DEAD)
    assert reconcile(runs.home) == 1 and not record.exists()
    found = runs.client.read_flow_run(taken).state
    assert found is not None and found.is_crashed() and "retry" in str(found.message)
    assert [runs.flow_state(each) for each in (begun, theirs)] == ["Running", "Pending"]
    with pytest.raises(ValueError, match="begin it with"):
        register_worker(runs.home, "somebody", os.getpid())


def test_living_processes_other_machines_and_foreign_files_are_left_alone(runs: Runs) -> None:
    mine, theirs = runs.flow_run(Running()), runs.flow_run(Running())
    runs.record(f"{FLOW_RUN}{mine}", identity(os.getpid()))
    runs.record(f"{FLOW_RUN}{theirs}", DEAD, machine="elsewhere")
    runs.record("notes", DEAD)
    runs.record(f"{FLOW_RUN}not-an-id", DEAD)
    assert reconcile(runs.home) == 0
    assert [runs.flow_state(each) for each in (mine, theirs)] == ["Running"] * 2
    assert (runs.home / "commands" / "notes.json").exists()


def test_tasks_below_runs_that_the_worker_called_crashed_end_too(runs: Runs) -> None:
    run = runs.flow_run(Crashed())
    dummy = runs.task_run(run, Running())
    below = runs.flow_run(Running(), parent=dummy)
    assert reconcile(runs.home) == 2
    assert (runs.task_state(dummy), runs.flow_state(below)) == ("Crashed", "Crashed")


def test_a_run_of_a_worker_is_registered_and_reconciles_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect import runtime

    seen: list[Path] = []
    monkeypatch.setattr(module, "reconcile", seen.append)
    supervise(tmp_path)
    assert seen == [] and not (tmp_path / "commands").exists()  # a command's own flow: it did both
    run = str(uuid.uuid4())
    monkeypatch.setattr(runtime, "deployment", SimpleNamespace(id="x"))
    monkeypatch.setattr(runtime, "flow_run", SimpleNamespace(id=run, run_count=2))
    supervise(tmp_path)
    assert seen == [tmp_path]
    monkeypatch.setattr(module, "reconcile", refuse)
    supervise(tmp_path)  # a server that does not answer is no reason not to work
    (record,) = (tmp_path / "commands").iterdir()
    assert (record.stem, json.loads(record.read_text())["attempt"]) == (FLOW_RUN + run, 2)


def test_the_record_of_a_run_that_ended_well_goes_with_its_process(runs: Runs) -> None:
    """Not before: the server may not have heard of the end."""
    run = runs.flow_run(Completed())
    record = runs.record(f"{FLOW_RUN}{run}", identity(os.getpid()))
    assert reconcile(runs.home) == 0 and record.exists()
    runs.record(f"{FLOW_RUN}{run}", DEAD)
    assert reconcile(runs.home) == 0 and not record.exists()
    assert runs.flow_state(run) == "Completed"


def test_commands_have_tags_of_their_own(tmp_path: Path) -> None:
    with registered(tmp_path) as first, registered(tmp_path) as second:
        assert first != second
        assert sorted(path.stem for path in (tmp_path / "commands").iterdir()) == sorted([first, second])
    assert list((tmp_path / "commands").iterdir()) == []
