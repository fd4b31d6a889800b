"""Proxies are for other machines: what this one asks of itself goes to itself."""

import os
from collections.abc import Mapping
from urllib.parse import urlsplit

LOOPBACK = ("localhost", "127.0.0.1", "::1")
NAMES = ("NO_PROXY", "no_proxy")


def no_proxy(address: str | None = None, environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Variables that add this machine, and the host of `address`, to what no proxy is asked for.

    Both spellings: who looks for one reads the other only where that is missing. Without brackets, which
    httpx takes for a port.
    """
    environment = os.environ if environment is None else environment
    said = [part.strip().strip("[]") for name in NAMES for part in environment.get(name, "").split(",")]
    own = urlsplit(address).hostname if address else None
    hosts = dict.fromkeys(part for part in (*said, *LOOPBACK, own) if part)
    value = "*" if "*" in hosts else ",".join(hosts)
    return dict.fromkeys(NAMES, value)
