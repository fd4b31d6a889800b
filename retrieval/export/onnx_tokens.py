"""Patches of a vision transformer of timm in operations that take any size of photograph.

timm resizes the position embedding by torch's antialiased bicubic interpolation. ONNX has an operator of that
name, which onnxruntime computes otherwise; here it is two matrix products, the same numbers up to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CUBIC = -0.5
"""Of the bicubic kernel, as torch has it with antialiasing."""


class PlacedPatches(nn.Module):
    """timm's PatchEmbed with padding, followed by the position embedding: [B, 3, H, W] -> [B, h, w, C].

    positions: [C, rows, columns], of the grid that they were learnt on; None where the network has none.
    """

    def __init__(self, embed: nn.Module, positions: Tensor | None) -> None:
        super().__init__()
        self.proj, self.norm = embed.proj, embed.norm
        self.high, self.wide = embed.patch_size  # type: ignore[misc]
        self.positions = positions

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = self.dynamic_feat_size(x.shape[2:])
        missing = (rows * self.high - x.shape[2], columns * self.wide - x.shape[3])
        padded = F.pad(x, (0, missing[1], 0, missing[0]))
        patches: Tensor = self.norm(self.proj(padded).permute(0, 2, 3, 1))  # type: ignore[operator]
        if self.positions is None:
            return patches
        down = resizing(self.positions.shape[1], patches.shape[1])
        along = resizing(self.positions.shape[2], patches.shape[2])
        return patches + (down @ self.positions @ along.T).permute(1, 2, 0)

    def dynamic_feat_size(self, size: Sequence[int]) -> tuple[int, int]:
        """Rows and columns of the patches of a photograph of that height and width."""
        # Not -(-size // patch): ONNX rounds a division of integers towards zero.
        return (size[0] + self.high - 1) // self.high, (size[1] + self.wide - 1) // self.wide


def resizing(old: int, new: int) -> Tensor:
    """The matrix [new, old] that makes `new` values of `old` along a side: F.interpolate's "bicubic" with
    antialias=True."""
    step = old / torch.ones(new, dtype=torch.float32).sum()
    widened = torch.clamp(step, min=1.0)
    centres = (torch.arange(new, dtype=torch.float32) + 0.5) * step
    distance = ((torch.arange(old, dtype=torch.float32) + 0.5 - centres[:, None]) / widened).abs()
    near = ((CUBIC + 2) * distance - (CUBIC + 3)) * distance**2 + 1
    far = CUBIC * (((distance - 5) * distance + 8) * distance - 4)
    weights = torch.where(distance < 1, near, torch.where(distance < 2, far, torch.zeros(())))
    return weights / weights.sum(dim=1, keepdim=True)


def replace_positions(features: nn.Module) -> None:
    """Let a trunk of tokens place its patches by PlacedPatches, in place; other trunks stay as they are.

    The positions of class and register tokens are added to these tokens themselves.
    """
    body = getattr(features, "body", None)
    if body is None or not hasattr(features, "tokens"):
        return
    learnt, old = body.pos_embed, body.patch_embed
    if learnt is None:
        body.patch_embed = PlacedPatches(old, None)
        return
    first = 0 if body.no_embed_class else body.num_prefix_tokens
    for name, start, end in (("cls_token", 0, 1), ("reg_token", int(body.cls_token is not None), first)):
        token = getattr(body, name)
        if first and token is not None:
            setattr(body, name, nn.Parameter(token + learnt[:, start:end], requires_grad=False))
    grid = learnt[0, first:].T.unflatten(1, old.grid_size)
    body.patch_embed, body.pos_embed = PlacedPatches(old, grid.contiguous()), None
