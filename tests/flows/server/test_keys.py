"""The key of a server: where it is, who can read it, whose comes first."""

from __future__ import annotations

import json
import logging
import os
import socket
import stat
from pathlib import Path

import pytest

from flows.server import keys
from flows.server.access import NotUp, serving_settings, settings_for_prefect
from flows.server.children import identity
from flows.server.keys import (
    CLIENT_KEY,
    SERVER_KEY,
    KeyNotUsable,
    key_of_up,
    key_path,
    make_key,
    new_key,
    read_key,
    users_key,
)
from flows.server.server import announced


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (SERVER_KEY, CLIENT_KEY, "PREFECT_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PREFECT_PROFILES_PATH", str(tmp_path / "profiles.toml"))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o277])
def test_it_is_made_once_and_for_its_owner_alone(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        key = make_key(tmp_path)
    finally:
        os.umask(before)
    assert mode(key_path(tmp_path)) == 0o600 and len(key) > 40
    assert make_key(tmp_path) == read_key(tmp_path) == key
    assert [path.name for path in tmp_path.iterdir()] == ["key"]
    assert new_key() != new_key()


def test_one_that_others_could_read_is_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    old = make_key(tmp_path)
    key_path(tmp_path).chmod(0o644)
    with caplog.at_level(logging.WARNING):
        new = make_key(tmp_path)
    assert new != old and mode(key_path(tmp_path)) == 0o600
    assert "could be read by others" in caplog.text and old not in caplog.text and new not in caplog.text


@pytest.mark.parametrize("content", [b"", b"short", b"\xff" * 60, b"a" * 40 + b"\n" + b"b" * 40, b"\0" * 50])
def test_what_is_no_key_is_said_and_replaced(tmp_path: Path, content: bytes) -> None:
    descriptor = os.open(key_path(tmp_path), os.O_CREAT | os.O_WRONLY, 0o600)
    with open(descriptor, "wb") as file:
        file.write(content)
    with pytest.raises(KeyNotUsable, match="holds no key"):
        read_key(tmp_path)
    assert read_key_of(make_key(tmp_path), tmp_path)


def read_key_of(key: str, home: Path) -> bool:
    return read_key(home) == key


def test_a_link_or_a_pipe_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text(new_key())
    key_path(tmp_path).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KeyNotUsable):
        read_key(tmp_path)
    before = (tmp_path / "elsewhere").read_text()
    make_key(tmp_path)
    assert not key_path(tmp_path).is_symlink() and (tmp_path / "elsewhere").read_text() == before
    key_path(tmp_path).unlink()
    os.mkfifo(key_path(tmp_path))
    with pytest.raises(KeyNotUsable):
        read_key(tmp_path)


def test_the_users_comes_first_and_is_written_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert users_key() is None
    profile = f'active = "lab"\n[profiles.lab]\n{CLIENT_KEY} = "lab:secret"\n'
    (tmp_path / "profiles.toml").write_text(profile)
    assert users_key() == "lab:secret"
    monkeypatch.setenv(CLIENT_KEY, "client:secret")
    assert users_key() == "client:secret"
    monkeypatch.setenv(SERVER_KEY, "server:secret")
    home = tmp_path / "home"
    home.mkdir()
    assert key_of_up(home) == ("server:secret", True) and not list(home.iterdir())
    monkeypatch.setenv(SERVER_KEY, "schl\u00fcssel")
    with pytest.raises(KeyNotUsable, match="printable ASCII") as error:
        users_key()
    assert "schl" not in str(error.value)


def test_the_stores_own_in_the_environment_is_no_other_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`up` is started again in a shell that has what `store environment` printed."""
    key = make_key(tmp_path)
    monkeypatch.setenv(CLIENT_KEY, key)
    assert key_of_up(tmp_path) == (key, False)


def test_commands_find_the_key_of_the_up_that_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = make_key(tmp_path)
    with announced(tmp_path, "http://127.0.0.1:1/api"):
        monkeypatch.setenv(CLIENT_KEY, "of:another server")
        assert serving_settings(tmp_path)[CLIENT_KEY] == key
        assert key not in (tmp_path / "up.json").read_text()
    with announced(tmp_path, "http://127.0.0.1:1/api", users_key=True):
        assert serving_settings(tmp_path)[CLIENT_KEY] == "of:another server"
        monkeypatch.delenv(CLIENT_KEY)
        with pytest.raises(KeyNotUsable, match=f"started with a key of yours; set {CLIENT_KEY}"):
            serving_settings(tmp_path)
        assert "another server" not in (tmp_path / "up.json").read_text()


def test_a_key_that_is_not_ours_to_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(KeyNotUsable, match=f"is for the user who started it.*set {CLIENT_KEY}"):
        read_key(tmp_path)


def test_what_prefect_needs_here_and_on_another_machine(tmp_path: Path) -> None:
    home = tmp_path / "prefect"
    home.mkdir()
    key = make_key(home)
    with pytest.raises(NotUp, match="--server"):
        settings_for_prefect(tmp_path)
    there = settings_for_prefect(tmp_path, "http://lab:4200/")
    assert there["PREFECT_API_URL"] == "http://lab:4200/api" and there[CLIENT_KEY] == key
    record = {
        "api_url": "http://127.0.0.1:7/api",
        "owner": identity(os.getpid()),
        "machine": socket.gethostname(),
    }
    (home / "up.json").write_text(json.dumps(record))
    here = settings_for_prefect(tmp_path)
    assert here == {**there, "PREFECT_API_URL": "http://127.0.0.1:7/api"}


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keys.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        make_key(tmp_path)
    assert not list(tmp_path.iterdir())
