"""A command for the tests whose tasks sleep in threads: `python interrupted_flow.py STORE`, then Ctrl-C."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path


def load() -> Callable[..., None]:
    from prefect import flow, task

    from tasks.engine.runtime import fan_out

    @task(persist_result=False)
    def sleep(seconds: float) -> None:
        os.write(sys.stdout.fileno(), b"sleeping\n")  # in one piece: another thread says the same
        time.sleep(seconds)

    @flow(persist_result=False)
    def sleepers() -> None:
        fan_out(sleep, [{"seconds": 60.0}] * 2, workers=2)

    return sleepers


if __name__ == "__main__":
    from flows.cli import common

    common.END_LIMIT_S = 2.0
    common.run_flow(Path(sys.argv[1]), load, {})
