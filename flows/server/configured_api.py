"""What the user has set of Prefect's, where, and whether the server that is named there answers.

Importing this module does not import Prefect.
"""

import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx

VARIABLE = "PREFECT_API_URL"
TABLES = {
    VARIABLE: ("api", "url"),
    "PREFECT_API_AUTH_STRING": ("api", "auth_string"),
    "PREFECT_SERVER_API_AUTH_STRING": ("server", "api", "auth_string"),
}
"""Where prefect.toml has what the variables are called."""
_ENVIRONMENT = "environment variable"
LIMIT_S = 5.0
WITHOUT = f"to do without it, write `{VARIABLE}= retrieval-sfm ...`"
"""An empty variable stands above every file."""


class ApiUnusable(ConnectionError):
    """The Prefect server that the user has set up cannot be used."""


@dataclass(frozen=True)
class ConfiguredApi:
    """The address of a Prefect API, where it is set, and how to do without it."""

    url: str
    source: str
    without: str = WITHOUT

    def unusable(self, why: str) -> ApiUnusable:
        """The error that says so."""
        where = f"{without_password(self.url)!r} ({self.source})"
        return ApiUnusable(f"the Prefect server {where} {why}; {self.without}")


def configured_api(environment: Mapping[str, str] | None = None) -> ConfiguredApi | None:
    """The user's Prefect server; None where none is set, or the variable is set and empty."""
    url, source = _found(VARIABLE, environment)
    without = f"to do without it, `unset {VARIABLE}`" if source.startswith(_ENVIRONMENT) else WITHOUT
    return ConfiguredApi(url, source, without) if url else None


def user_setting(name: str, environment: Mapping[str, str] | None = None) -> str | None:
    """What the user has set of Prefect's, one of the names in TABLES; None where nothing, or empty."""
    return _found(name, environment)[0] or None


def _found(name: str, environment: Mapping[str, str] | None) -> tuple[str, str]:
    """The value of a setting, and where it is set: where and in the order in which Prefect looks."""
    environment = os.environ if environment is None else environment
    if (value := environment.get(name)) is not None:
        return value.strip(), f"{_ENVIRONMENT} {name}"
    found = ((str(value), source) for value, source in _in_files(name, environment) if value)
    return next(found, ("", ""))


def _in_files(name: str, environment: Mapping[str, str]) -> Iterator[tuple[Any, str]]:
    """What the files say, and where, the first to be believed first."""
    dotenv = _dotenv()
    yield dotenv.get(name), f"{name} in {Path('.env').absolute()}"
    tables = {file: _toml(Path(file)) for file in ("prefect.toml", "pyproject.toml")}
    tables["pyproject.toml"] = _at(tables["pyproject.toml"], "tool", "prefect") or {}
    for file, table in tables.items():
        yield _at(table, *TABLES[name]), f"{'.'.join(TABLES[name])} in {Path(file).absolute()}"
    named = environment.get("PREFECT_PROFILES_PATH") or dotenv.get("PREFECT_PROFILES_PATH")
    for table in tables.values():
        named = named or _at(table, "profiles_path")
    home = Path(environment.get("PREFECT_HOME") or Path.home() / ".prefect").expanduser()
    path = Path(str(named)).expanduser() if named else home / "profiles.toml"
    profiles = _toml(path)
    active = environment.get("PREFECT_PROFILE") or profiles.get("active")
    yield _at(profiles, "profiles", active, name), f"profile {active!r} of {path}"


def _dotenv() -> Mapping[str, str | None]:
    if not Path(".env").is_file():
        return {}
    from dotenv import dotenv_values

    return dotenv_values(".env")


def _toml(path: Path) -> dict[str, Any]:
    """A TOML file's table, {} where it is missing or no TOML: Prefect itself says that."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _at(table: Any, *keys: Any) -> Any:
    for key in keys:
        table = table.get(key) if isinstance(table, dict) else None
    return table


def without_password(url: str) -> str:
    """An address as it may be shown: without the part that says who asks."""
    scheme, separator, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}{separator}{authority.rpartition('@')[2]}{slash}{path}" if separator else url


def check(api: ConfiguredApi, limit_s: float = LIMIT_S) -> None:
    """Ask a question that only a Prefect API answers, with the keys of the user's settings.

    Raises ApiUnusable where it is not answered within `limit_s`, or not as Prefect would.
    """
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    asked: dict[Any, Any] = {PREFECT_API_URL: api.url, PREFECT_CLIENT_MAX_RETRIES: 0}
    httpx_settings = {"timeout": limit_s}
    try:
        with (
            temporary_settings(updates=asked),
            get_client(httpx_settings=httpx_settings, sync_client=True) as client,
        ):
            count = client._client.post("/flow_runs/count", json={}).json()
            if not isinstance(count, int):
                raise api.unusable("answers, and not as a Prefect API does; its address ends in /api")
            client.raise_for_api_version_mismatch_once()
    except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
        raise api.unusable("has no address that begins with http:// or https://") from error
    except httpx.TimeoutException as error:
        raise api.unusable(f"does not answer within {limit_s:.0f} s") from error
    except httpx.HTTPStatusError as error:
        raise api.unusable(_refusal(error.response)) from error
    except httpx.HTTPError as error:
        raise api.unusable(f"cannot be reached: {error}") from error
    except ValueError as error:
        raise api.unusable("answers, and not as a Prefect API does; its address ends in /api") from error
    except RuntimeError as error:  # another major version
        raise api.unusable(f"is not usable: {error}") from error


def _refusal(response: "httpx.Response") -> str:
    status = f"{response.status_code} {response.reason_phrase}".strip()
    if response.status_code in (401, 403):
        return (
            f"wants a key ({status}): set PREFECT_API_AUTH_STRING to the server's own, or PREFECT_API_KEY to "
            "yours for Prefect Cloud"
        )
    if response.status_code in (500, 502, 503, 504):
        return f"has a fault ({status}); its log says which"
    return f"answers {status} where a Prefect API would know what is meant; its address ends in /api"
