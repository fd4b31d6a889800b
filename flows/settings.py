"""How a command uses Prefect: the user's server if one is configured, else our temporary one for this store.

Light on purpose: nothing here imports Prefect, which reads these variables when it is imported.
"""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path

STARTUP_LIMIT_S = 60.0
VERIFY = "RETRIEVAL_SFM_VERIFY"  # the variable that tasks.caching reads
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


def user_api_url(environment: Mapping[str, str] | None = None) -> str | None:
    """The address of a Prefect server that the user configured: PREFECT_API_URL, else the active
    profile's."""
    environment = os.environ if environment is None else environment
    if url := environment.get("PREFECT_API_URL"):
        return url
    home = Path(environment.get("PREFECT_HOME") or Path.home() / ".prefect").expanduser()
    path = Path(environment.get("PREFECT_PROFILES_PATH") or home / "profiles.toml").expanduser()
    try:
        profiles = tomllib.loads(path.read_text(encoding="utf-8"))
        active = environment.get("PREFECT_PROFILE") or profiles.get("active")
        return profiles.get("profiles", {}).get(active, {}).get("PREFECT_API_URL")
    except (OSError, tomllib.TOMLDecodeError, AttributeError):
        return None


def logging_settings(level: str) -> dict[str, str]:
    """Variables that send our loggers into Prefect's run logs, at `level` on the console."""
    return {
        "PREFECT_LOGGING_LEVEL": level,
        "PREFECT_LOGGING_EXTRA_LOGGERS": LIBRARY_LOGGERS,
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    }


def client_settings(home: Path, api_url: str) -> dict[str, str]:
    """Variables of a command that uses our temporary server at `api_url`; `home` is `<store>/prefect`."""
    return {
        "PREFECT_HOME": str(home),
        "PREFECT_PROFILES_PATH": str(home / "profiles.toml"),
        "PREFECT_API_URL": api_url,
        "PREFECT_UI_URL": "",
        "PREFECT_RESULTS_LOCAL_STORAGE_PATH": str(home / "results"),
        "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED": "false",
    }


def server_settings(home: Path) -> dict[str, str]:
    """Variables of the temporary server: its database in `home`, nothing served or run that a command does
    not use."""
    settings = {
        "PREFECT_HOME": str(home),
        "PREFECT_PROFILES_PATH": str(home / "profiles.toml"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
        "PREFECT_SERVER_UI_ENABLED": "false",
        "PREFECT_SERVER_DATABASE_MIGRATE_ON_START": "false",
        "PREFECT_API_BLOCKS_REGISTER_ON_START": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": f"{STARTUP_LIMIT_S:.0f}",
        "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "false",
        "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_ENABLED": "false",
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "200",
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    }
    names = ("PREFECT_API_DATABASE_CONNECTION_URL", "PREFECT_SERVER_DATABASE_CONNECTION_URL")
    if not any(os.environ.get(name) for name in names):
        settings["PREFECT_API_DATABASE_CONNECTION_URL"] = f"sqlite+aiosqlite:///{home / 'prefect.db'}"
    return settings
