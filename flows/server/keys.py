"""The key of a Prefect server that we start: Prefect's own authentication string, asked for by every
request.

`up` makes one per store, `<store>/prefect/key`, that its owner alone can read; the commands of the store find
it there. A key that the user has set (PREFECT_SERVER_API_AUTH_STRING or PREFECT_API_AUTH_STRING, in the
environment or the active profile) is used in its place and is written nowhere. A temporary server has a key
of its own that ends with it. Nothing here imports Prefect.
"""

import logging
import os
import secrets
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from flows.server.configured_api import user_setting

logger = logging.getLogger(__name__)

SERVER_KEY, CLIENT_KEY = "PREFECT_SERVER_API_AUTH_STRING", "PREFECT_API_AUTH_STRING"
USER = "retrieval-sfm"
"""What stands before the colon: `curl --user` and Prefect's examples want a name there."""
SHORTEST = 32
LONGEST = 4096


class KeyNotUsable(ValueError):
    """The key of a server is missing, not ours to read, or not one that can be sent."""


def new_key() -> str:
    """A key that nobody guesses."""
    return f"{USER}:{secrets.token_urlsafe(32)}"


def users_key(environment: Mapping[str, str] | None = None) -> str | None:
    """The key that the user has set for a server, else for its clients. Raises KeyNotUsable."""
    for name in (SERVER_KEY, CLIENT_KEY):
        if found := user_setting(name, environment):
            if not (found.isascii() and found.isprintable()):
                raise KeyNotUsable(f"{name} has characters that cannot be sent; use printable ASCII")
            return found
    return None


def key_path(home: Path) -> Path:
    """Where the key of the store with this Prefect home is."""
    return home / "key"


def read_key(home: Path) -> str:
    """The key of a store. Raises KeyNotUsable."""
    path = key_path(home)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            content = file.read(LONGEST) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
    except OSError as error:
        raise KeyNotUsable(
            f"{path}: {error.strerror}; the key of the `up` of this store is for the user who started it: "
            f"be that user, or set {CLIENT_KEY}"
        ) from error
    found = content.decode("ascii", "replace").strip()
    if len(found) < SHORTEST or not found.isascii() or not found.isprintable():
        raise KeyNotUsable(f"{path} holds no key; end `up` and start it again, which makes a new one")
    return found


def key_of_up(home: Path) -> tuple[str, bool]:
    """The key of an `up` that starts, and whether it is the user's, which the store does not hold. For one
    process at a time. Raises KeyNotUsable, OSError."""
    if (given := users_key()) is None:
        return make_key(home), False
    with suppress(KeyNotUsable):  # the store's own, exported for `prefect`, is no other one
        return given, given != read_key(home)
    return given, True


def make_key(home: Path) -> str:
    """The key of a store; a new one where there is none, or where others could have read it.

    For one process at a time: `up`, which holds the store's lock. Raises KeyNotUsable, OSError.
    """
    with suppress(KeyNotUsable):
        if not others_can_read(home):
            return read_key(home)
        logger.warning("%s could be read by others: a new key is made", key_path(home))
    return _write_key(home)


def others_can_read(home: Path) -> bool:
    """Whether the key's file is open to anybody but its owner."""
    with suppress(OSError):
        return bool(key_path(home).lstat().st_mode & (stat.S_IRWXG | stat.S_IRWXO))
    return False


def _write_key(home: Path) -> str:
    path, key = key_path(home), new_key()
    temporary = path.with_name(f".key-{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o600)  # whatever the umask took away
            file.write(f"{key}\n".encode())
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    if others_can_read(home):
        logger.warning("%s keeps no permissions: others on this machine can read the key", path)
    return key


def client_key_settings(key: str) -> dict[str, str]:
    """Variables of who asks a server with this key."""
    return {CLIENT_KEY: key, "PREFECT_CLIENT_CSRF_SUPPORT_ENABLED": "true"}


def server_key_settings(key: str, origin: str) -> dict[str, str]:
    """Variables of a server that answers to this key alone, and to pages of its own origin alone."""
    return {
        SERVER_KEY: key,
        CLIENT_KEY: key,
        "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": origin,
    }
