"""Curves of a training: loss, validation mAP, GeM's exponent per epoch."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from report.tables.training import TrainingTable

_BLUE, _ORANGE, _GREY = "#0072b2", "#d55e00", "#999999"
"""Colours that colour-blind people tell apart (Okabe and Ito)."""


def draw_curves(table: TrainingTable) -> bytes:
    """A PNG of 3 panels over the epochs: losses, val mAP in %, p; the epoch that was kept is marked."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 3.0), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    losses, quality, exponent = figure.subplots(1, 3)
    epochs = np.array([row.epoch for row in table.epochs])
    _line(losses, epochs, [row.loss_train for row in table.epochs], "train", _BLUE, "o")
    _line(losses, epochs, [row.loss_val for row in table.epochs], "val", _ORANGE, "s")
    _line(quality, epochs, [100 * row.map_val for row in table.epochs], "val mAP", _ORANGE, "s")
    _line(exponent, epochs, [row.gem_p for row in table.epochs], "p", _BLUE, "o")
    titles = ("loss of a tuple", "mAP on val, %", "GeM's exponent p")
    for axes, title in zip((losses, quality, exponent), titles, strict=True):
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.axvline(table.best_epoch, color=_GREY, linestyle=":", linewidth=1.5)
        axes.grid(alpha=0.3)
    losses.legend(fontsize=8)
    file = io.BytesIO()
    canvas.print_png(file, metadata={"Software": None})
    return file.getvalue()


def _line(axes: Any, epochs: Any, values: list[float], label: str, colour: str, marker: str) -> None:
    known = np.isfinite(values)
    axes.plot(epochs[known], np.array(values)[known], label=label, color=colour, marker=marker, markersize=4)
