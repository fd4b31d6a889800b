"""Commands that are killed: what they leave, and what the next command makes of it."""

import ast
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from tests.flows.server.running import temporary_server

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = Path(__file__).with_name("killed_flow.py")


def start(store: Path, *arguments: str, script: Path = SCRIPT, **variables: str) -> subprocess.Popen[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    return subprocess.Popen(
        [sys.executable, str(script), str(store), *arguments],
        env={**environment, "PYTHONPATH": str(ROOT), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def states(store: Path, table: str) -> list[str]:
    with closing(sqlite3.connect(store / "prefect" / "prefect.db")) as database:
        return sorted(row[0] for row in database.execute(f"select state_name from {table}"))


def servers(store: Path) -> list[int]:
    return [int(path.stem) for path in (store / "prefect" / "servers").glob("*.json")]


def test_after_kill_9_the_next_command_goes_on_and_tells_the_truth(tmp_path: Path) -> None:
    store = tmp_path / "store"
    first = start(store, "30")
    deadline = time.monotonic() + 60
    while len(list(store.glob("number/*.txt"))) < 1:
        assert first.poll() is None, first.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(2.5)  # the server has recorded that the flow and its tasks are running
    (server,) = servers(store)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    time.sleep(1.0)
    assert not psutil.pid_exists(server) or psutil.Process(server).status() == psutil.STATUS_ZOMBIE
    assert states(store, "flow_run") == ["Running"]

    second = start(store)
    output, log = second.communicate(timeout=90)
    assert second.returncode == 0, log
    assert output.startswith("total 6 ")
    assert "number 0" not in output  # finished by the first command
    assert "now marked Crashed" in log
    assert states(store, "flow_run") == ["Completed", "Crashed"]
    assert set(states(store, "task_run")) == {"Cached", "Completed", "Crashed"}
    assert servers(store) == []
    assert list((store / "prefect" / "commands").iterdir()) == []


def test_two_commands_on_one_store_share_the_work(tmp_path: Path) -> None:
    store = tmp_path / "store"
    commands = [start(store, "0.2"), start(store, "0.2")]
    results = [command.communicate(timeout=120) for command in commands]
    assert [command.returncode for command in commands] == [0, 0], results
    assert {output.split("[")[0] for output, _ in results} == {"total 6 "}
    computed = [name for output, _ in results for name in ast.literal_eval(output.split(" ", 2)[2])]
    assert sorted(computed) == ["folder", "number 0", "number 1", "number 2", "number 3", "total"]
    assert states(store, "flow_run") == ["Completed", "Completed"]


@pytest.mark.parametrize(("number", "word"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")])
def test_a_signal_ends_soon_also_while_threads_compute(tmp_path: Path, number: int, word: str) -> None:
    command = start(tmp_path / "store", script=SCRIPT.with_name("interrupted_flow.py"))
    assert command.stdout is not None
    assert command.stdout.readline() == "sleeping\n"
    (server,) = servers(tmp_path / "store")
    began = time.monotonic()
    command.send_signal(number)
    _, log = command.communicate(timeout=30)
    assert time.monotonic() - began < 8
    assert command.returncode == 128 + number
    assert f"{word}: ending" in log
    time.sleep(1.0)
    assert not psutil.pid_exists(server) or psutil.Process(server).status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("to", ["process", "group"])
def test_a_signal_ends_the_command_and_all_below_it(tmp_path: Path, number: int, to: str) -> None:
    """In order: Prefect is told, nothing stays. To the group, as `timeout` sends it: the server gets none."""
    pids, store = tmp_path / "pids", tmp_path / "store"
    pids.mkdir()
    command = start(store, str(pids), script=SCRIPT.with_name("ended_flow.py"), TMPDIR=str(tmp_path))
    family = wait_for_family(pids, command)
    family += [psutil.Process(server) for server in servers(store)]
    os.kill(command.pid, number) if to == "process" else os.killpg(command.pid, number)
    _, log = command.communicate(timeout=30)
    assert command.returncode == 128 + number, log
    _, alive = psutil.wait_procs(family, timeout=5)
    assert alive == []
    assert "the same command goes on" in log and "Traceback" not in log.partition("log:")[2]
    assert list(tmp_path.glob("retrieval-sfm-*")) == []
    assert states(store, "flow_run") == ["Crashed"]


def wait_for_family(pids: Path, command: subprocess.Popen[str]) -> list[psutil.Process]:
    """The two children and what they started."""
    deadline = time.monotonic() + 120
    while sum(len(path.read_text().split()) for path in pids.iterdir()) < 4:
        assert command.poll() is None, command.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return [psutil.Process(int(pid)) for path in pids.iterdir() for pid in path.read_text().split()]


def test_the_users_server_is_used_and_no_other(tmp_path: Path) -> None:
    with temporary_server(tmp_path / "server") as server:
        theirs = {"PREFECT_API_URL": server.api_url, "PREFECT_API_AUTH_STRING": server.key}
        command = start(tmp_path / "store", **theirs)
        output, log = command.communicate(timeout=90)
        assert command.returncode == 0, log
        assert output.startswith("total 6 ")
    assert states(tmp_path / "server", "flow_run") == ["Completed"]
    assert set(states(tmp_path / "server", "task_run")) == {"Completed"}
    assert not (tmp_path / "store" / "prefect" / "prefect.db").exists()
    assert len(list((tmp_path / "store" / "prefect" / "results").iterdir())) == 6
