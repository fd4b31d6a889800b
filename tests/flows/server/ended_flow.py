"""A command for the tests whose tasks wait for children with children of their own: `ended_flow.py STORE
PIDS`."""

import sys
from collections.abc import Callable
from pathlib import Path

import typer


def load() -> Callable[..., None]:
    from prefect import flow, task

    from storage.children.patience import run_patiently
    from tasks.engine.runtime import fan_out

    @task(persist_result=False)
    def wait(name: str, holding: bool) -> None:
        place = Path(sys.argv[2]) / name
        run_patiently("tests.storage.children.test_child:stay", place, holding=holding, label=name)

    @flow(persist_result=False)
    def waiting() -> None:
        fan_out(wait, [{"name": str(n), "holding": n == 1} for n in range(2)], workers=2)

    return waiting


if __name__ == "__main__":
    from flows.cli import common

    common.END_LIMIT_S = 60.0  # in order, however slow the machine
    try:
        common.run_flow(Path(sys.argv[1]), load, {})
    except typer.Exit as end:
        sys.exit(end.exit_code)
