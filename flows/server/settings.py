"""How a command uses Prefect: the user's server if one is configured, else our temporary one for this store.

Light on purpose: nothing here imports Prefect, which reads these variables when it is imported.
"""

import os
from pathlib import Path

STARTUP_LIMIT_S = 180.0
VERIFY = "RETRIEVAL_SFM_VERIFY"  # the variable that tasks.engine.caching reads
HEARTBEAT_S = 30
DATABASE_VARIABLES = ("PREFECT_API_DATABASE_CONNECTION_URL", "PREFECT_SERVER_DATABASE_CONNECTION_URL")
LEASES = {"PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem"}
"""Who holds a slot is known in `<store>/prefect/concurrency_leases`: kept in memory, a server that ends would
leave the slots of a deployment or a GPU taken for ever."""
LIBRARY_LOGGERS = "sfm,retrieval,storage,tasks,flows"


class StoreNotWritable(ValueError):
    """The folder in the store that Prefect needs cannot be written."""


def prefect_home(store: Path) -> Path:
    """Folder of Prefect's database, records and logs of one store."""
    return Path(store) / "prefect"


def prepare_home(store: Path) -> Path:
    """Make `<store>/prefect` and try to write there. Raises StoreNotWritable."""
    home = prefect_home(store)
    probe = home / f".probe-{os.getpid()}"
    try:
        home.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise StoreNotWritable(
            f"{home}: {error.strerror}; a store needs a folder that you can write to: choose another --store "
            "or mend its permissions"
        ) from error
    return home


def logging_settings(level: str) -> dict[str, str]:
    """Variables that send our loggers into Prefect's run logs, at `level` on the console."""
    return {
        "PREFECT_LOGGING_LEVEL": level,
        "PREFECT_LOGGING_EXTRA_LOGGERS": LIBRARY_LOGGERS,
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    }


def client_settings(home: Path, api_url: str) -> dict[str, str]:
    """Variables of a command that uses our temporary server at `api_url`; `home` is `<store>/prefect`."""
    return _home_settings(home) | {
        "PREFECT_API_URL": api_url,
        "PREFECT_UI_URL": "",
        "PREFECT_RESULTS_LOCAL_STORAGE_PATH": str(home / "results"),
        "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
        "PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED": "false",
    }


def server_settings(home: Path) -> dict[str, str]:
    """Variables of the temporary server: its database in `home`, nothing served or run that a command does
    not use."""
    return _any_server_settings(home) | {
        "PREFECT_SERVER_UI_ENABLED": "false",
        "PREFECT_API_BLOCKS_REGISTER_ON_START": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": f"{STARTUP_LIMIT_S:.0f}",
        "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "false",
        "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_ENABLED": "false",
    }


def lasting_server_settings(home: Path, host: str, port: int) -> dict[str, str]:
    """Variables of the server of `up`: the same database, with the UI, schedules, events and automations.

    The UI asks the address that it was loaded from, so that it works from another machine and through a
    proxy.
    """
    return _any_server_settings(home) | {
        "PREFECT_SERVER_API_HOST": host,
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_UI_API_URL": "/api",
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(home / "ui"),
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    }


def _home_settings(home: Path) -> dict[str, str]:
    """Where Prefect keeps what it keeps; it tells nobody else."""
    return {
        "PREFECT_HOME": str(home),
        "PREFECT_PROFILES_PATH": str(home / "profiles.toml"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }


def _any_server_settings(home: Path) -> dict[str, str]:
    settings = {
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
        "PREFECT_SERVER_DATABASE_MIGRATE_ON_START": "false",
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "200",
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    }
    return settings | _home_settings(home) | LEASES | _database(home)


def worker_settings(home: Path, api_url: str) -> dict[str, str]:
    """Variables of the worker of `up` and of the flow runs that it starts: how often they say that they live,
    and ask for work, s."""
    settings = client_settings(home, api_url) | logging_settings("INFO")
    settings |= {"PREFECT_UI_URL": api_url.removesuffix("/api")}
    settings["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] = str(HEARTBEAT_S)
    settings["PREFECT_WORKER_QUERY_SECONDS"] = os.environ.get("PREFECT_WORKER_QUERY_SECONDS", "2")
    return settings


def further_worker_settings(api_url: str) -> dict[str, str]:
    """Variables of a worker that `up` did not start, and of `prefect` commands."""
    return {
        "PREFECT_API_URL": api_url,
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_S),
        "PREFECT_LOGGING_EXTRA_LOGGERS": LIBRARY_LOGGERS,
    }


def _database(home: Path) -> dict[str, str]:
    """Where the server keeps its records: what the user says, else a SQLite file in `home`."""
    if any(os.environ.get(name) for name in DATABASE_VARIABLES):
        return {}
    return {DATABASE_VARIABLES[0]: f"sqlite+aiosqlite:///{home / 'prefect.db'}"}
