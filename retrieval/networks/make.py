"""The network as an artifact."""

from __future__ import annotations

from pathlib import Path

from retrieval.networks.options import NetworkOptions


def make_network(options: NetworkOptions, *, out: Path) -> dict[str, object]:
    """Build the network of the options and write it to `out` (.safetensors).

    Returns facts for the log: parameters and descriptor size. Raises WeightsUnavailable, WeightsMismatch.
    """
    from retrieval.networks.network import build_network, keep_network

    return keep_network(build_network(options), out)
