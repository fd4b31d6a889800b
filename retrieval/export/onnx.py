"""A network as an ONNX graph: photographs of any size and number in, descriptors out, whitening included.

Input `photographs` [batch, 3, height, width] float32: RGB, upright, each channel (x / 255 - mean) / std
with x in 0..255, all photographs of a batch of one size. Output `descriptors` [batch, D] float32 of unit
length. The file's metadata say the same, with the numbers.
"""

from __future__ import annotations

import copy
import json
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from retrieval.describe.images import normalise
from retrieval.export.onnx_regions import exportable
from retrieval.export.onnx_tokens import replace_positions
from retrieval.networks.network import RetrievalNetwork
from retrieval.networks.pooling import l2_normalize
from retrieval.whitening.whitening import Whitening

TOLERANCE = 1e-4
"""Largest difference of a value of a descriptor from torch's that is accepted."""
EXAMPLE = (2, 3, 128, 160)  # of a batch; the graph does not depend on it
_AXES = {0: "batch", 2: "height", 3: "width"}
_TALKATIVE = ("torch.onnx", "onnxscript", "onnx_ir", "torch.export", "torch.fx.experimental.symbolic_shapes")
_INPUT, _OUTPUT = "photographs", "descriptors"
INPUT_LAYOUT = (
    "[batch, 3, height, width] float32, RGB, upright, (x / 255 - mean) / std per channel, x in 0..255"
)


class MissingPackage(ValueError):
    """A package that only the export needs is not installed."""


class ExportMismatch(RuntimeError):
    """The exported graph does not compute what the network computes."""


def export_onnx(
    network: RetrievalNetwork,
    path: Path,
    *,
    whitening: Whitening | None = None,
    dimensions: int | None = None,
) -> None:
    """Write the network, followed by the first `dimensions` (None: all) of a whitening, as one file.

    Equal networks give equal bytes. Raises MissingPackage, ValueError where the whitening does not fit.
    """
    onnx = _package("onnx")
    _package("onnxscript")
    module = _Exported(network, whitening, dimensions).eval().requires_grad_(False)
    example = torch.zeros(EXAMPLE)
    with _quiet(), torch.no_grad():
        dynamic = {_INPUT: dict.fromkeys(_AXES, torch.export.Dim.DYNAMIC)}
        program = torch.export.export(module, (example,), dynamic_shapes=dynamic)
        exported = torch.onnx.export(
            program, (example,), dynamo=True, input_names=[_INPUT], output_names=[_OUTPUT], verbose=False
        )
    assert exported is not None
    model = exported.model_proto
    _describe(onnx, model, network, whitening, module.dimension)
    onnx.checker.check_model(model)
    with open(path, "wb") as file:
        file.write(model.SerializeToString(deterministic=True))
        file.flush()
        os.fsync(file.fileno())


def check_onnx(
    path: Path,
    network: RetrievalNetwork,
    photographs: Sequence[NDArray[np.uint8]],
    *,
    whitening: Whitening | None = None,
    dimensions: int | None = None,
) -> float:
    """The largest difference between the file in onnxruntime and the network in torch, whitened in float64.

    photographs: [H, W, 3] uint8 of any sizes. Raises ExportMismatch above TOLERANCE, MissingPackage.
    """
    runtime = _package("onnxruntime")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    mean, std = network.description.mean, network.description.std
    worst = 0.0
    for photograph in photographs:
        batch = normalise(photograph, mean, std)
        with torch.inference_mode():
            expected = network(batch).numpy()
        if whitening is not None:
            expected = whitening.apply(expected, dimensions)
        (found,) = session.run(None, {_INPUT: batch.numpy()})
        difference = float(np.abs(found - expected).max())
        if not difference <= TOLERANCE:
            height, width = photograph.shape[:2]
            raise ExportMismatch(
                f"exported {path.name}: descriptors of a {width} x {height} photograph differ by "
                f"{difference:.1e} from torch's, at most {TOLERANCE:g} is accepted; the file was not kept"
            )
        worst = max(worst, difference)
    return worst


class SamePadding(nn.Module):
    """A convolution with TensorFlow's padding for stride 1 or 2, without a branch on its input's size."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.convolution = convolution

    def forward(self, x: Tensor) -> Tensor:
        layer = self.convolution
        kernel, stride = layer.kernel_size[0], layer.stride[0]
        after = (kernel - 1) // 2
        if stride == 1:
            return F.conv2d(x, layer.weight, layer.bias, 1, after, 1, layer.groups)
        before = (kernel - 2) // 2  # one more where the side is odd
        sides = (before + x.shape[3] % 2, after, before + x.shape[2] % 2, after)
        return F.conv2d(F.pad(x, sides), layer.weight, layer.bias, stride, 0, 1, layer.groups)


class _Exported(nn.Module):
    """The network's forward pass in operations that take any size, then the whitening."""

    def __init__(
        self, network: RetrievalNetwork, whitening: Whitening | None, dimensions: int | None
    ) -> None:
        super().__init__()
        whole = copy.deepcopy(network).cpu()
        self.features, self.lwhiten, self.whiten = whole.features, whole.lwhiten, whole.whiten
        self.pool = exportable(whole.pool)
        _replace_padding(self.features)
        replace_positions(self.features)
        self.dimension = network.description.dimension
        self.center: Tensor | None = None
        self.projection: Tensor | None = None
        if whitening is not None:
            if len(whitening.mean) != self.dimension:
                raise ValueError(
                    f"whitening of {len(whitening.mean)} dimensions: the network's descriptors have "
                    f"{self.dimension}; use the whitening that was learnt on this network"
                )
            weight, _ = whitening.as_linear(dimensions)
            self.center = torch.from_numpy(whitening.mean.astype(np.float32))
            self.projection = torch.from_numpy(np.ascontiguousarray(weight, dtype=np.float32))
            self.dimension = len(weight)

    def forward(self, photographs: Tensor) -> Tensor:
        maps = self.features(photographs)
        if self.lwhiten is not None:
            maps = self.lwhiten(maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        descriptors = l2_normalize(self.pool(maps))
        if self.whiten is not None:
            descriptors = l2_normalize(self.whiten(descriptors))
        if self.center is not None and self.projection is not None:
            # The mean first: P x - P m would lose digits where P is large.
            descriptors = l2_normalize(F.linear(descriptors - self.center, self.projection))
        return descriptors


def _replace_padding(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.Conv2d) and type(child).__name__ == "Conv2dDynamicSamePadding":
            setattr(module, name, SamePadding(child))
        else:
            _replace_padding(child)


def _describe(
    onnx: Any, model: Any, network: RetrievalNetwork, whitening: Whitening | None, dimension: int
) -> None:
    """Names of the free axes, what the input must be, and nothing about the machine that exported it."""
    description = network.description
    (photographs,), (descriptors,) = model.graph.input, model.graph.output
    for axis, name in _AXES.items():
        photographs.type.tensor_type.shape.dim[axis].dim_param = name
    photographs.doc_string, descriptors.doc_string = INPUT_LAYOUT, "[batch, D] float32, unit length"
    descriptors.type.tensor_type.shape.dim[0].dim_param = "batch"
    del model.graph.value_info[:]  # shapes in the exporter's own names
    for node in model.graph.node:
        del node.metadata_props[:]  # file names and lines of the exporting process
        node.doc_string = ""
    for each in (model, model.graph):
        del each.metadata_props[:]
    model.producer_name, model.doc_string = "retrieval-sfm", f"{_INPUT}: {INPUT_LAYOUT}"
    facts = {
        "input": INPUT_LAYOUT,
        "mean": list(description.mean),
        "std": list(description.std),
        "dimension": dimension,
        "whitened": whitening is not None,
        "network": description.facts(),
    }
    onnx.helper.set_model_props(
        model, {k: v if isinstance(v, str) else json.dumps(v) for k, v in facts.items()}
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter's own remarks are about torch, not about the network."""
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    before = [each.level for each in loggers]
    for each in loggers:
        each.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for each, level in zip(loggers, before, strict=True):
            each.setLevel(level)


def _package(name: str) -> Any:
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError as error:
        raise MissingPackage(
            f"the export to ONNX needs the package {name!r}; install retrieval-sfm[export]"
        ) from error
