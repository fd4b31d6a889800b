"""Files that hold networks: our safetensors, and the .pth of the published code, read without running pickled
code."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from retrieval.networks.normalisation import IMAGENET_MEAN, IMAGENET_STD
from retrieval.networks.options import Tokens
from retrieval.networks.pooling_table import POOLINGS
from retrieval.networks.torch_files import BadTorchFile, RefusedTorchFile, StoredTensor, read_torch_file
from storage.files.errors import ArtifactError
from storage.files.whole import sync_file, unfinished_folder

FORMAT = "retrieval-sfm network"
FORMAT_VERSION = 2
"""2: networks whose description says more than version 1 knows; all others are still written as version 1."""
DESCRIPTION_TENSOR = "description"
METADATA_KEY = "retrieval_sfm"  # one key only: safetensors writes several in no fixed order
_PARALLEL = "module."  # before every name where torch's DataParallel was saved
_PUBLISHED = {pooling.published: name for name, pooling in POOLINGS.items() if pooling.published}


STRUCTURE = ("tokens", "pooling", "regional", "regional_whitening", "local_whitening", "whitening")
"""What a description and the options of a network have in common."""


class UnreadableNetwork(ValueError):
    """A file is no network that can be read (safely)."""


@dataclass(frozen=True)
class NetworkDescription:
    """What rebuilds a network around its tensors. mean and std per channel of an RGB photograph in 0..1."""

    architecture: str
    dimension: int
    pooling: str = "gem"
    regional: bool = False
    regional_whitening: bool = False
    local_whitening: bool = False
    whitening: bool = False
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    tokens: Tokens = "patches"

    @property
    def power_over_scales(self) -> bool:
        """Whether several scales are averaged with the exponent of GeM: only where GeM pools and no layer
        follows."""
        pooled = POOLINGS[self.pooling].power_mean and self.tokens != "class"
        return pooled and not self.regional and not self.whitening

    @property
    def version(self) -> int:
        """The oldest format that can hold it."""
        return 1 if self.tokens == "patches" else 2

    def facts(self) -> dict[str, Any]:
        """As JSON values. What version 1 does not know is left out where it is as it was then: networks
        keep their bytes and their digests."""
        known = asdict(self)
        if self.version == 1:
            del known["tokens"]
        return known


def write_network(path: Path, description: NetworkDescription, tensors: Mapping[str, Tensor]) -> None:
    """Write atomically; the same network gives the same bytes."""
    metadata = {"format": FORMAT, "version": description.version, "network": description.facts()}
    ordered = {name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}
    ordered[DESCRIPTION_TENSOR] = _as_tensor(description)
    save_whole(path, ordered, {METADATA_KEY: json.dumps(metadata, sort_keys=True)})


def save_whole(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a file of safetensors that is whole or absent, in place of one that is there."""
    with unfinished_folder(path.parent) as folder:  # safetensors leaves a file of its own where it is killed
        save_file(tensors, folder / path.name, metadata)
        sync_file(folder / path.name)
        os.replace(folder / path.name, path)


def _as_tensor(description: NetworkDescription) -> Tensor:
    """The description as bytes of JSON: content digests look at tensors only, and mac is not spoc."""
    return torch.tensor(list(json.dumps(description.facts(), sort_keys=True).encode()), dtype=torch.uint8)


def read_network(path: Path) -> tuple[NetworkDescription, dict[str, Tensor]]:
    """Description and tensors of our .safetensors or a published .pth. Raises UnreadableNetwork."""
    if _is_safetensors(path, "network"):
        return _read_ours(path)
    checkpoint = read_pickled_tensors(path)
    meta, tensors = checkpoint.get("meta"), checkpoint.get("state_dict")
    if not isinstance(meta, dict) or not isinstance(tensors, dict):
        raise UnreadableNetwork(
            f"network {path}: holds no 'meta' and 'state_dict'; it is a .pth of other code. As trunk weights "
            "it may still serve: network.weights_file"
        )
    if all(str(name).startswith(_PARALLEL) for name in tensors):
        tensors = {name.removeprefix(_PARALLEL): tensor for name, tensor in tensors.items()}
    return _describe_published(path, meta, tensors), dict(tensors)


def holds_network(path: Path) -> bool:
    """Whether the file is a complete network, ours or published, and not bare trunk weights. Raises
    UnreadableNetwork."""
    if _is_safetensors(path, "weights file"):
        with _opened(path) as file:
            return METADATA_KEY in (file.metadata() or {})
    return "pooling" in (read_pickled_tensors(path).get("meta") or {})


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Named tensors of a state dict in .safetensors or .pth, whatever wraps them. Raises
    UnreadableNetwork."""
    if _is_safetensors(path, "weights file"):
        with _opened(path) as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    content = read_pickled_tensors(path)
    state = content.get("state_dict", content)
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def published_whitenings(path: Path) -> dict[str, dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]]:
    """Learnt whitenings kept in a published .pth: {training set: {"ss" | "ms": (mean [D], projection [D,
    D])}}.

    Empty where the file has none. Raises UnreadableNetwork.
    """
    try:
        learnt = (read_pickled_tensors(path).get("meta") or {}).get("Lw") or {}
        return {
            name: {
                kind: (np.ravel(w["m"]).astype(np.float64), np.asarray(w["P"], np.float64))
                for kind, w in kinds.items()
            }
            for name, kinds in learnt.items()
        }
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise UnreadableNetwork(
            f"network {path}: its learnt whitenings are not {{training set: {{'ss' or 'ms': {{'m', 'P'}}}}}} "
            f"({type(error).__name__}: {error}); learn one instead: retrieval-sfm stage whiten"
        ) from error


def read_pickled_tensors(path: Path) -> dict[str, Any]:
    """A .pth as plain containers, tensors and numpy arrays; anything else in it is refused, nothing of it is
    run.

    Raises UnreadableNetwork.
    """
    try:
        content = _with_tensors(read_torch_file(path))
    except RefusedTorchFile as error:
        what = str(error).removeprefix(f"{path}: ")
        raise UnreadableNetwork(
            f"network {path}: refused, {what}. Nothing in it was run; get the file from its source again, or "
            "save its state dict alone"
        ) from error
    except (BadTorchFile, ArtifactError, OSError) as error:
        what = str(error).removeprefix(f"{path}: ")
        raise UnreadableNetwork(
            f"network {path}: not a readable .pth ({what}); it is cut off or another kind of file: get it "
            "from its source again"
        ) from error
    if not isinstance(content, dict):
        raise UnreadableNetwork(
            f"network {path}: holds a {type(content).__name__}, not a dictionary of tensors"
        )
    return content


def _with_tensors(value: Any) -> Any:
    """The same containers with torch's tensors, which share the memory of what was read."""
    if isinstance(value, StoredTensor):
        tensor = torch.from_numpy(value.array())
        return tensor.view(torch.bfloat16) if value.is_bfloat16 else tensor
    if isinstance(value, dict):
        return {name: _with_tensors(each) for name, each in value.items()}
    return type(value)(map(_with_tensors, value)) if isinstance(value, list | tuple) else value


def _describe_published(path: Path, meta: dict[str, Any], tensors: dict[str, Tensor]) -> NetworkDescription:
    pooling = _PUBLISHED.get(str(meta.get("pooling")))
    if pooling is None or "architecture" not in meta:
        raise UnreadableNetwork(
            f"network {path}: architecture {meta.get('architecture')!r}, pooling {meta.get('pooling')!r}; "
            f"known poolings: {', '.join(_PUBLISHED)}"
        )
    try:
        found = NetworkDescription(
            architecture=str(meta["architecture"]),
            dimension=int(meta["outputdim"]),
            pooling=pooling,
            regional_whitening="pool.whiten.weight" in tensors,
            regional=bool(meta.get("regional", False)),
            local_whitening=bool(meta.get("local_whitening", False)),
            whitening=bool(meta.get("whitening", False)),
            mean=tuple(float(value) for value in meta.get("mean", IMAGENET_MEAN)),
            std=tuple(float(value) for value in meta.get("std", IMAGENET_STD)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UnreadableNetwork(
            f"network {path}: its 'meta' is not that of a published network "
            f"({type(error).__name__}: {error}); as trunk weights it may still serve: network.weights_file"
        ) from error
    return _checked(path, found)


def _checked(path: Path, found: NetworkDescription) -> NetworkDescription:
    """The description if a network can be built from it. Raises UnreadableNetwork."""
    statistics = (*found.mean, *found.std)
    usable = all(isinstance(value, int | float) and math.isfinite(value) for value in statistics)
    for holds, what in (
        (found.pooling in POOLINGS, f"pooling {found.pooling!r}"),
        (found.tokens in get_args(Tokens), f"tokens {found.tokens!r}"),
        (isinstance(found.dimension, int) and found.dimension > 0, f"dimension {found.dimension!r}"),
        (usable and len(found.mean) == len(found.std) == 3, f"mean {found.mean}, std {found.std}"),
        (usable and all(value > 0 for value in found.std), f"std {found.std}"),
    ):
        if not holds:
            raise UnreadableNetwork(
                f"network {path}: describes itself with {what}; get it from its source again"
            )
    return found


def _read_ours(path: Path) -> tuple[NetworkDescription, dict[str, Tensor]]:
    with _opened(path) as file:
        description = _describe_ours(path, (file.metadata() or {}).get(METADATA_KEY, "{}"))
        names = [name for name in file.keys() if name != DESCRIPTION_TENSOR]  # noqa: SIM118
        return description, {name: file.get_tensor(name) for name in names}


def _describe_ours(path: Path, written: str) -> NetworkDescription:
    found = None
    try:
        metadata = json.loads(written)
        ours, version = metadata.get("format") == FORMAT, int(metadata.get("version", 0))
        if ours and version <= FORMAT_VERSION:
            found = NetworkDescription(**metadata["network"])
            found = replace(found, mean=tuple(found.mean), std=tuple(found.std))
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise UnreadableNetwork(
            f"network {path}: damaged description ({type(error).__name__}: {error}); make it again"
        ) from error
    if found is not None:
        return _checked(path, found)
    if not ours:
        raise UnreadableNetwork(
            f"network {path}: safetensors without the metadata {METADATA_KEY!r} of this project"
        )
    raise UnreadableNetwork(
        f"network {path}: format version {version}, this program reads up to {FORMAT_VERSION}; upgrade"
    )


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            yield file
    except SafetensorError as error:
        raise UnreadableNetwork(f"network {path}: damaged safetensors ({error})") from error


def _is_safetensors(path: Path, what: str) -> bool:
    """By content: 8 bytes of header length, then the header's opening brace. Raises UnreadableNetwork."""
    if not path.is_file():
        raise UnreadableNetwork(f"{what} {path}: no such file")
    with open(path, "rb") as file:
        head = file.read(9)
    return path.suffix == ".safetensors" or (len(head) == 9 and head[8:9] == b"{")
