"""The straightforward way of an epoch: one photograph per forward pass, float32, full decode, full sort.

What `benchmarks.epoch_throughput` compares with. Written from the definitions, with nothing of
retrieval/ but the network itself; `reproduces_the_oracles` trains and mines the recorded cases first.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor, nn

Load = Callable[[int], Tensor]
EPS = 1e-6


def loader(paths: Sequence[Path], image_size: int, mean: Sequence[float], std: Sequence[float]) -> Load:
    """image -> [1, 3, H, W]: decoded in full, upright, the longer side at most image_size px, normalised."""

    def load(image: int) -> Tensor:
        with Image.open(paths[image]) as opened:
            photograph = ImageOps.exif_transpose(opened).convert("RGB")
        photograph.thumbnail((image_size, image_size), Image.Resampling.LANCZOS, reducing_gap=None)
        array = torch.from_numpy(np.asarray(photograph, dtype=np.float32) / 255.0).permute(2, 0, 1)
        return ((array - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None])[None]

    return load


def describe(network: nn.Module, load: Load, images: Sequence[int]) -> NDArray[np.float32]:
    """Descriptors [N, D] of images, one forward pass each."""
    network.eval()
    with torch.no_grad():
        return torch.cat([network(load(image)) for image in images]).numpy()


def mine(
    queries: NDArray[np.float32],
    pool: NDArray[np.float32],
    query_clusters: Sequence[int],
    pool_clusters: Sequence[int],
    count: int,
) -> NDArray[np.int64]:
    """N2: a full sort of the pool per query, walked until `count` other clusters were met; [Q, count]."""
    scores = pool @ queries.T
    order = np.argsort(-scores, axis=0, kind="stable")
    chosen: list[list[int]] = []
    for query, own in enumerate(query_clusters):
        taken = {own}
        found: list[int] = []
        for position in order[:, query]:
            if len(found) == count:
                break
            if pool_clusters[position] not in taken:
                taken.add(pool_clusters[position])
                found.append(position)
        chosen.append(found)
    return np.array(chosen, dtype=np.int64).reshape(len(chosen), count)


def contrastive(descriptors: Tensor, margin: float) -> Tensor:
    """Of one tuple [2 + n, D]: query, positive, negatives."""
    distance = (descriptors[:1] - descriptors[1:] + EPS).pow(2).sum(dim=1).sqrt()
    attract = 0.5 * distance[0] ** 2
    return attract + (0.5 * torch.clamp(margin - distance[1:], min=0) ** 2).sum()


def train(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    load: Load,
    tuples: NDArray[np.int64],
    margin: float,
    tuples_per_step: int = 5,
) -> NDArray[np.float64]:
    """Losses [T] of training on tuples [T, 2 + n]: a backward pass per tuple, then a step for several."""
    network.train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    losses = []
    optimizer.zero_grad()
    for position, images in enumerate(tuples.tolist()):
        loss = contrastive(torch.cat([network(load(image)) for image in images]), margin)
        loss.backward()
        losses.append(float(loss.detach()))
        if (position + 1) % tuples_per_step == 0:
            optimizer.step()
            optimizer.zero_grad()
    return np.array(losses)


def adam(network: Any, rate: float, weight_decay: float) -> torch.optim.Optimizer:
    """The published groups: p ten times faster and without weight decay."""
    exponent: list[torch.nn.Parameter] = [network.gem.p]
    rest = [parameter for parameter in network.parameters() if parameter is not exponent[0]]
    faster: dict[str, Any] = {"params": exponent, "lr": 10 * rate, "weight_decay": 0.0}
    return torch.optim.Adam([{"params": rest}, faster], lr=rate, weight_decay=weight_decay)


def reproduces_the_oracles(folder: Path, tiny: Callable[[], nn.Module]) -> None:
    """Train and mine the recorded cases (shared/oracles). Raises AssertionError where they differ."""
    oracle = np.load(folder / "train" / "adam_contrastive.npz")
    config, network = json.loads(str(oracle["config"])), tiny()
    network.load_state_dict(
        {n[5:]: torch.from_numpy(oracle[n]) for n in oracle.files if n.startswith("init.")}
    )
    optimizer = adam(network, config["lr"], config["weight_decay"])
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])

    def load(image: int) -> Tensor:
        array = oracle["images_landscape" if image % 2 else "images_portrait"][image // 2]
        rows = (array.astype(np.float32) / 255.0 - mean.astype(np.float32)) / std.astype(np.float32)
        return torch.from_numpy(rows).permute(2, 0, 1)[None]

    for epoch in range(config["epochs"]):
        factor = float(np.exp(-0.01 * (epoch + 1)))
        for group, speed in zip(optimizer.param_groups, (1, 10), strict=True):
            group["lr"] = config["lr"] * factor * speed
        steps = config["batch_size"] * config["update_every"]
        losses = train(network, optimizer, load, oracle[f"epoch{epoch}_tuples"], config["margin"], steps)
        np.testing.assert_allclose(losses, oracle[f"epoch{epoch}_losses"], rtol=1e-5)
    for name, tensor in network.state_dict().items():
        np.testing.assert_allclose(tensor, oracle[f"final.{name}"], atol=1e-4, err_msg=name)
    for path in sorted((folder / "mining").glob("*.npz")):
        recorded = np.load(path)
        rows, cluster = recorded["vecs"].T, recorded["cluster"]
        query, pool = recorded["qidxs"], recorded["drawn_pool"]
        found = mine(rows[query], rows[pool], cluster[query], cluster[pool], int(recorded["nnum"]))
        assert (pool[found] == recorded["nidxs"]).all(), path.name
