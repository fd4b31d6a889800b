"""The poolings that networks can have, by name. Light: torch is imported by what makes one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Pooling:
    """make: of GeM's first exponent and the number of channels; published: its name in published checkpoints,
    None: in none of them; regional: it pools over regions already; power_mean: descriptors of several scales
    are averaged with its exponent."""

    make: Callable[[float, int], nn.Module]
    published: str | None = None
    regional: bool = False
    power_mean: bool = False


def _modules() -> Any:
    from retrieval.networks import pooling

    return pooling


POOLINGS = {
    "gem": Pooling(lambda p, channels: _modules().GeM(p), "gem", power_mean=True),
    "gem_per_channel": Pooling(lambda p, channels: _modules().GeM(p, per_channel=channels), "gemmp"),
    "mac": Pooling(lambda p, channels: _modules().MAC(), "mac"),
    "spoc": Pooling(lambda p, channels: _modules().SPoC(), "spoc"),
    "rmac": Pooling(lambda p, channels: _modules().RMAC(), "rmac", regional=True),
}
"""A function without parameters is made a module by `_modules().Plain(function)`."""
