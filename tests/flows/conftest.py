"""A Prefect server for the tests of this folder that call real flows, and a small network."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.server.context import Session, session


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """One temporary server; commands in this process find it and start none of their own."""
    with session(tmp_path_factory.mktemp("server"), log_level="ERROR") as running:
        running.open()
        yield running


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a small network of random weights."""
    from retrieval.networks.network import build_network, save_network
    from retrieval.networks.options import NetworkOptions

    path = tmp_path_factory.mktemp("network") / "tiny.safetensors"
    save_network(build_network(NetworkOptions(backbone="squeezenet1_1", weights="random", seed=1)), path)
    return path
