"""How commands, `prefect` and browsers reach the `up` of a store."""

import json
from base64 import b64encode
from pathlib import Path
from urllib.request import ProxyHandler, Request, build_opener

from flows.server.children import read_record
from flows.server.keys import CLIENT_KEY, KeyNotUsable, client_key_settings, read_key, users_key
from flows.server.server import serving
from flows.server.settings import further_worker_settings, prefect_home


class NotUp(ValueError):
    """No `up` serves the store."""


def serving_settings(home: Path) -> dict[str, str]:
    """Variables of who asks the `up` that `serving` finds. Raises KeyNotUsable."""
    if not read_record(home / "up.json").get("users_key"):
        return client_key_settings(read_key(home))
    if key := users_key():
        return client_key_settings(key)
    raise KeyNotUsable(
        f"`up` of {str(home.parent)!r} was started with a key of yours; set {CLIENT_KEY} to it here"
    )


def settings_for_prefect(store: Path, server: str | None = None) -> dict[str, str]:
    """Variables of `prefect` commands and of further workers, for the `up` of a store.

    server: its address, where it is on another machine. Raises NotUp, KeyNotUsable.
    """
    home = prefect_home(store)
    here = serving(home)
    if server is None and here is None:
        raise NotUp(
            f"no `up` of {str(store)!r} runs on this machine; start it, or name it: --server http://NAME:4200"
        )
    url = here if server is None else server.rstrip("/").removesuffix("/api") + "/api"
    return further_worker_settings(str(url)) | serving_settings(home)


def sign_in_address(api_url: str, key: str) -> str:
    """An address that signs a browser in, once, within an hour. Raises OSError where nothing answers."""
    place = api_url.removesuffix("/api")
    credentials = b64encode(key.encode()).decode()
    request = Request(f"{place}/sign-in/ticket", b"", {"Authorization": f"Basic {credentials}"})
    with build_opener(ProxyHandler({})).open(request, timeout=30.0) as answer:
        return f"{place}/sign-in#{json.load(answer)['ticket']}"
