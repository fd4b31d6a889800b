"""Anybody's network file as an artifact: a .safetensors of ours, or a .pth of the published code."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from retrieval.networks.options import STAGE as NETWORK
from storage.keys.options import ContentPath, Options
from storage.keys.stages import Stage


class NetworkImportOptions(Options):
    """Which file."""

    file: ContentPath = Field(description="a network.safetensors of ours, or a .pth of the published code")


STAGE = Stage(name="imported_network", suffix=NETWORK.suffix, packages=NETWORK.packages, code=__name__)


def import_network(options: NetworkImportOptions, *, out: Path) -> dict[str, object]:
    """Read the network and write it to `out`; no pickled code is run.

    Returns facts for the log: parameters and descriptor size. Raises UnreadableNetwork, WeightsMismatch.
    """
    from retrieval.networks.network import keep_network, load_network

    return keep_network(load_network(options.file), out)
