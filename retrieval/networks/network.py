"""The retrieval network: photographs in, global descriptors out."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from retrieval.networks.build_trunk import build_trunk
from retrieval.networks.files import (
    STRUCTURE,
    NetworkDescription,
    UnreadableNetwork,
    holds_network,
    read_network,
    write_network,
)
from retrieval.networks.options import NetworkOptions
from retrieval.networks.pooling import GeM, Regional, SPoC, l2_normalize
from retrieval.networks.pooling_table import POOLINGS
from retrieval.networks.trunks import (
    NoSuchTokens,
    Trunk,
    UnknownBackbone,
    WeightsMismatch,
    freeze_statistics,
    seeded,
)
from storage.hdf5.file import read


class RetrievalNetwork(nn.Module):
    """features -> [local whitening] -> pooling -> L2 -> [whitening -> L2]. Source: TPAMI 2018, sec. 3.

    Photographs [B, 3, H, W], normalised with description.mean and .std -> descriptors [B, D] of unit length.
    BatchNorm always keeps its statistics, as in the published training. Attribute names are those of
    published checkpoints.
    """

    def __init__(
        self,
        features: nn.Module,
        pool: nn.Module,
        description: NetworkDescription,
        *,
        lwhiten: nn.Linear | None = None,
        whiten: nn.Linear | None = None,
    ) -> None:
        super().__init__()
        self.features = features
        self.lwhiten = lwhiten
        self.pool = pool
        self.whiten = whiten
        self.description = description
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        maps = self.features(x)
        with torch.autocast(x.device.type, enabled=False):  # powers and norms need full precision
            maps = maps.to(x.dtype)
            if self.lwhiten is not None:
                maps = self.lwhiten(maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            pooled = l2_normalize(self.pool(maps))
            return pooled if self.whiten is None else l2_normalize(self.whiten(pooled))

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        freeze_statistics(self)
        return self

    @property
    def gem(self) -> GeM | None:
        """The generalised mean inside the pooling, None for other poolings."""
        inner = self.pool.rpool if isinstance(self.pool, Regional) else self.pool
        return inner if isinstance(inner, GeM) else None

    @property
    def mean_exponent(self) -> float:
        """Mean of GeM's exponents, nan for other poolings."""
        return math.nan if self.gem is None else float(self.gem.p.detach().mean())

    @property
    def scale_exponent(self) -> float:
        """Exponent of the mean over scales: p for plain GeM without a whitening layer, else 1."""
        plain = self.description.power_over_scales and self.gem is not None
        return self.mean_exponent if plain else 1.0


def build_network(options: NetworkOptions) -> RetrievalNetwork:
    """The network of the options, on the CPU, in evaluation mode.

    A weights_file that holds a complete network (ours or published) is returned as it is and must agree with
    the options; a whitening_file gives it the layer that it has not. Raises UnknownBackbone, NoSuchTokens,
    WeightsUnavailable, WeightsMismatch, UnreadableNetwork, storage.hdf5's errors.
    """
    if options.whitening_file is not None:
        plain = options.model_copy(update={"whitening": False, "whitening_file": None})
        network = build_network(plain)
        arrays = read(Path(options.whitening_file), "whitening")
        initialise_whitening(network, arrays["mean"], arrays["projection"])
        return network
    path = Path(options.weights_file) if options.weights_file is not None else None
    if path is not None and holds_network(path):
        return _agreeing(load_network(path), options, path)
    with seeded(options.seed):
        trunk = build_trunk(
            options.backbone,
            imagenet=options.weights == "imagenet",
            weights_file=path,
            tokens=options.tokens,
        )
        description = NetworkDescription(
            architecture=options.backbone,
            dimension=trunk.dimension,
            mean=trunk.mean,
            std=trunk.std,
            **options.model_dump(include=set(STRUCTURE)),
        )
        return _assemble(trunk, description, options.gem_p)


def load_network(path: Path | str) -> RetrievalNetwork:
    """Read our .safetensors or a .pth of the published code; no pickled code is executed.

    Raises UnreadableNetwork (no such file, damaged, refused pickle), WeightsMismatch (tensors do not fit).
    """
    description, tensors = read_network(Path(path))
    with seeded(0):
        try:
            trunk = build_trunk(description.architecture, imagenet=False, tokens=description.tokens)
        except (UnknownBackbone, NoSuchTokens) as error:
            raise UnreadableNetwork(f"network {path}: {error}") from error
        if not description.whitening and description.dimension != trunk.dimension:
            raise WeightsMismatch(
                f"network {path}: says {description.dimension} dimensions, {description.architecture} "
                f"without a whitening layer has {trunk.dimension}; get it from its source again"
            )
        network = _assemble(trunk, description, 3.0)
    tensors = {name: tensor for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")}
    try:
        missing, unexpected = network.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise WeightsMismatch(f"network {path}: {error}") from error
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise WeightsMismatch(
            f"network {path}: missing tensors {missing[:3]}, unknown tensors {unexpected[:3]} for a "
            f"{description.architecture} with {description.pooling}; get it from its source again"
        )
    return network


def save_network(network: RetrievalNetwork, path: Path | str) -> None:
    """Write our .safetensors, atomically; the same network gives the same bytes."""
    write_network(Path(path), network.description, network.state_dict())


def keep_network(network: RetrievalNetwork, path: Path) -> dict[str, object]:
    """Save it as an artifact; facts for the log: parameters and descriptor size."""
    save_network(network, path)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return {"parameters": parameters, "dimension": network.description.dimension}


def initialise_whitening(
    network: RetrievalNetwork, mean: NDArray[np.floating], projection: NDArray[np.floating]
) -> None:
    """Give the network a whitening layer that starts as a learnt whitening: W = P, bias = -P m.

    mean [D], projection [D', D]. In place; the descriptors then have D' dimensions. Source: TPAMI 2018, sec.
    5.
    """
    outputs, inputs = projection.shape
    trunk_dimension = network.description.dimension if network.whiten is None else network.whiten.in_features
    if inputs != trunk_dimension or mean.shape != (inputs,):
        raise WeightsMismatch(
            f"whitening with mean {mean.shape} and projection {projection.shape}: the network pools "
            f"{trunk_dimension} values"
        )
    with seeded(0):
        layer = nn.Linear(inputs, outputs)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(np.ascontiguousarray(projection)))
        layer.bias.copy_(torch.from_numpy(-(projection @ mean)))
    network.whiten = layer
    network.description = replace(network.description, whitening=True, dimension=outputs)


def _assemble(trunk: Trunk, description: NetworkDescription, p: float) -> RetrievalNetwork:
    channels = trunk.dimension
    # One token is nothing to pool: its mean is itself, GeM would take its negative values away.
    pool = SPoC() if description.tokens == "class" else POOLINGS[description.pooling].make(p, channels)
    if description.regional:
        pool = Regional(pool, nn.Linear(channels, channels) if description.regional_whitening else None)
    return RetrievalNetwork(
        trunk.features,
        pool,
        description,
        lwhiten=nn.Linear(channels, channels) if description.local_whitening else None,
        whiten=nn.Linear(channels, description.dimension) if description.whitening else None,
    )


def _agreeing(network: RetrievalNetwork, options: NetworkOptions, path: Path) -> RetrievalNetwork:
    found = {"backbone": network.description.architecture, **asdict(network.description)}
    for name in ("backbone", *STRUCTURE):
        inside, asked = found[name], getattr(options, name)
        if inside != asked:
            raise WeightsMismatch(
                f"weights file {path}: a network with {name}={inside!r}, the options say {asked!r}"
            )
    return network
