"""A network for inference: BatchNorm with frozen statistics folded into the convolution before it, weights
rounded once. The same function, fewer passes over memory."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_weights

TRACE_SIZE = 64  # px; the order of layers does not depend on the size of the photograph
TOLERANCE = 1e-3  # relative; a wrong fold changes the output by far more


def fold_for_inference(network: nn.Module) -> nn.Module:
    """A copy of the network for inference: BatchNorm folded where it directly follows a convolution, channels
    last.

    Takes [B, 3, H, W]; equal to the original up to rounding. Returns a plain copy where folding would change
    the result.
    """
    folded = copy.deepcopy(network).eval().requires_grad_(False)
    for convolution, norm in follow_pairs(folded):
        convolution.weight, convolution.bias = fuse_conv_bn_weights(  # type: ignore[assignment]
            convolution.weight,
            convolution.bias,
            norm.running_mean,  # type: ignore[arg-type]
            norm.running_var,  # type: ignore[arg-type]
            norm.eps,
            norm.weight,
            norm.bias,
        )
        _replace(folded, norm, nn.Identity())
    if not _same_function(network, folded):
        folded = copy.deepcopy(network).eval().requires_grad_(False)
    return folded.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def round_for_bfloat16(network: nn.Module) -> nn.Module:
    """The network with the weights of its convolutions in bfloat16, in place; for use under autocast.

    Autocast rounds weights that need no gradient anew for every photograph: resnet101 at 362 px spends a
    fifth of its time on that. The result is the same to the bit; where it is not, nothing is changed.
    """
    photograph = _example(network)

    def described() -> Tensor:
        with torch.inference_mode(), torch.autocast(photograph.device.type, dtype=torch.bfloat16):
            return network(photograph)  # type: ignore[no-any-return]

    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    originals = [(module.weight, module.bias) for module in convolutions]
    expected = described()
    for module in convolutions:
        module.weight, module.bias = _rounded(module.weight), _rounded(module.bias)  # type: ignore[assignment]
    if not torch.equal(expected, described()):
        for module, (weight, bias) in zip(convolutions, originals, strict=True):
            module.weight, module.bias = weight, bias
    return network


def _rounded(parameter: Tensor | None) -> nn.Parameter | None:
    if parameter is None:
        return None
    return nn.Parameter(parameter.detach().bfloat16(), requires_grad=False)


def follow_pairs(network: nn.Module) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Convolutions whose output goes straight into a BatchNorm, found by running a small photograph
    through."""
    made_by: dict[int, nn.Conv2d] = {}
    alive: list[Tensor] = []  # keeps the identity of every output unique while tracing
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []

    def after_convolution(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        made_by[id(output)] = module
        alive.append(output)

    def before_norm(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(module, nn.BatchNorm2d)
        convolution = made_by.get(id(inputs[0]))
        if convolution is not None and module.running_mean is not None:
            pairs.append((convolution, module))

    hooks = [
        m.register_forward_hook(after_convolution) for m in network.modules() if isinstance(m, nn.Conv2d)
    ]
    hooks += [
        m.register_forward_pre_hook(before_norm) for m in network.modules() if isinstance(m, nn.BatchNorm2d)
    ]
    try:
        with torch.inference_mode():
            network(_example(network))
    finally:
        for hook in hooks:
            hook.remove()
    convolutions = [id(convolution) for convolution, _ in pairs]
    return [pair for pair in pairs if convolutions.count(id(pair[0])) == 1]


def _example(network: nn.Module) -> Tensor:
    first = next(network.parameters())
    values = torch.linspace(-2, 2, 3 * TRACE_SIZE * TRACE_SIZE, dtype=first.dtype, device=first.device)
    return values.sin().view(1, 3, TRACE_SIZE, TRACE_SIZE)


def _same_function(network: nn.Module, folded: nn.Module) -> bool:
    with torch.inference_mode():
        expected, found = network(_example(network)), folded(_example(network))
    return bool((expected - found).abs().max() <= TOLERANCE * expected.abs().max())


def _replace(root: nn.Module, old: nn.Module, new: nn.Module) -> None:
    for parent in root.modules():
        for name, child in parent.named_children():
            if child is old:
                setattr(parent, name, new)
