"""Sizes and times as people read them."""

from __future__ import annotations

from datetime import timedelta

import humanize


def human_bytes(count: float) -> str:
    """1536 -> '1.5 KiB'."""
    return humanize.naturalsize(count, binary=True)


def duration(seconds: float) -> str:
    """59.6 -> '60 seconds', 8300 -> '2 hours and 18 minutes'; of a day and more without minutes."""
    unit = "hours" if seconds >= 86400 else "minutes" if seconds >= 3600 else "seconds"
    return humanize.precisedelta(timedelta(seconds=seconds), minimum_unit=unit, format="%.0f")
