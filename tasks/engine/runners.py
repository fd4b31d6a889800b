"""Where the tasks of a fan-out run: threads of this process, or the workers of an existing Dask cluster."""

from importlib.util import find_spec
from typing import Any

from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

CONNECT_LIMIT = "20s"


class NoCluster(ValueError):
    """A Dask cluster that cannot be used."""


def task_runner(workers: int, address: str | None = None) -> TaskRunner[Any]:
    """Takes tasks once it is entered. address: of a Dask scheduler, "tcp://host:8786"; None: here, `workers`
    at a time.

    A cluster runs as many tasks at a time as it has threads; its workers see the store under the same path.
    Raises NoCluster.
    """
    return ThreadPoolTaskRunner[Any](max_workers=workers) if address is None else _dask(address)


def _dask(address: str) -> TaskRunner[Any]:
    """Raises NoCluster where the package is missing or nobody answers."""
    if find_spec("prefect_dask") is None:
        raise NoCluster("resources.runner=dask needs the extra dask: pip install 'retrieval-sfm[dask]'")
    from distributed import Client
    from prefect_dask import DaskTaskRunner

    try:
        with Client(address, timeout=CONNECT_LIMIT, set_as_default=False) as client:
            if not client.scheduler_info()["workers"]:
                raise NoCluster(
                    f"the Dask cluster at {address} has no workers; start one: dask worker {address}"
                )
    except (OSError, ValueError) as error:
        if isinstance(error, NoCluster):
            raise
        raise NoCluster(
            f"no Dask scheduler answers at {address}: {error}; start one, or correct resources.dask_address"
        ) from error
    runner: TaskRunner[Any] = DaskTaskRunner(address=address)
    return runner
