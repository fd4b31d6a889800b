"""One temporary Prefect server for the tests of this folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.server.context import Session, session


@pytest.fixture(scope="session")
def command(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """A command whose flows run against a real server; its store is not the one under test."""
    with session(tmp_path_factory.mktemp("server"), log_level="ERROR") as running:
        running.open()
        yield running


@pytest.fixture
def here(command: Session) -> Path:
    """Folder of the server's store; the fixture's purpose is that a server runs."""
    return command.store
