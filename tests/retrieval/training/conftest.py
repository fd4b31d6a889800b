"""Painted walls, and a training on them that several files look at."""

from pathlib import Path

import pytest

from retrieval.networks.make import make_network
from retrieval.networks.options import NetworkOptions
from storage.hdf5 import file as hdf5
from tests.retrieval.training.walls import OPTIONS, paint, train, training_set


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """photos/, set.h5 and network.safetensors."""
    root = tmp_path_factory.mktemp("world")
    (root / "photos").mkdir()
    rows = paint(root / "photos")
    hdf5.write(root / "set.h5", "training_set", training_set(rows), stage="select", options={}, inputs=[])
    make_network(NetworkOptions(backbone="squeezenet1_1", weights="random"), out=root / "network.safetensors")
    return root


@pytest.fixture(scope="session")
def trained(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    train(world, folder, OPTIONS.model_copy(update={"epochs": 3}))
    return folder
