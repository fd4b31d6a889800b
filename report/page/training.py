"""The training: curves over the epochs, their table, the hardest negatives of some epochs."""

from __future__ import annotations

from typing import Any

import numpy as np

from report.page.markup import Safe, details, number, section, table, tag
from report.page.material import Material, Section
from report.page.selection import contact_sheet
from report.sheets.tuples import NothingToShow, mined_rows
from report.tables.training import TrainingTable, read_training
from storage.hdf5 import file as hdf5

MOST_EPOCHS = 8
TUPLES = 4
_BLUE, _ORANGE, _GREEN = "#0072b2", "#d55e00", "#009e73"
_GRID = "rgba(128, 128, 128, 0.3)"


def training_section(material: Material) -> Safe | None:
    """The curves, and the numbers behind them."""
    if material.training_file is None:
        return None
    training = read_training(material.training_file)
    header = (
        "epoch",
        "learning rate",
        "loss train",
        "loss val",
        "val mAP, %",
        "negatives' distance",
        "GeM p",
    )
    rows = [
        (
            f"{row.epoch}{' (kept)' if row.epoch == training.best_epoch else ''}",
            number(row.learning_rate, ".1e") if row.epoch else "–",
            number(row.loss_train, ".4f"),
            number(row.loss_val, ".4f"),
            number(100 * row.map_val, ".1f"),
            number(row.mean_negative_distance, ".3f"),
            number(row.gem_p, ".3f"),
        )
        for row in training.epochs
    ]
    notes = [tag("p", f"Note: {text}", class_="note") for text in training.warnings[:10]]
    words = f"Epoch 0 is before training; the network of epoch {training.best_epoch} is kept."
    if training.num_shifted:
        words += (
            f" The training moved a photograph's descriptor by {training.median_shift:.4f} cosine distance "
            f"(median of {training.num_shifted})."
        )
    made = section(
        "training",
        "Training",
        tag("p", words),
        tag("div", id="curves", role="img", aria_label="curves over the epochs; the table has the numbers"),
        details("numbers of every epoch", table(header, rows), open_=len(rows) <= 6),
        *notes,
        *_hard_negatives(material, training),
    )
    material.figures["curves"] = _curves(training)
    return made


def _curves(training: TrainingTable) -> dict[str, Any]:
    """Loss, val mAP and GeM's exponent, one above the other, over the epochs."""
    from plotly import graph_objects

    epochs = [row.epoch for row in training.epochs]
    lines = (
        ("loss, train", [row.loss_train for row in training.epochs], _BLUE, "circle", "y"),
        ("loss, val", [row.loss_val for row in training.epochs], _ORANGE, "square", "y"),
        ("val mAP, %", [100 * row.map_val for row in training.epochs], _ORANGE, "square", "y2"),
        ("GeM p", [row.gem_p for row in training.epochs], _GREEN, "diamond", "y3"),
    )
    traces = [
        graph_objects.Scatter(
            x=epochs,
            y=[None if value != value else value for value in values],
            name=name,
            yaxis=axis,
            mode="lines+markers",
            line={"color": colour},
            marker={"symbol": symbol, "size": 7},
        )
        for name, values, colour, symbol, axis in lines
    ]
    best = {"type": "line", "x0": training.best_epoch, "x1": training.best_epoch, "y0": 0, "y1": 1}
    layout: dict[str, Any] = {
        "xaxis": {"title": {"text": "epoch"}, "dtick": max(1, len(epochs) // 10), "anchor": "y3"},
        "yaxis": {"title": {"text": "loss"}, "domain": [0.7, 1]},
        "yaxis2": {
            "title": {"text": "val mAP, %"},
            "domain": [0.36, 0.64],
            "autorangeoptions": {"clipmin": 0, "clipmax": 100.5},
        },
        "yaxis3": {"title": {"text": "GeM p"}, "domain": [0, 0.28]},
        "shapes": [{**best, "yref": "paper", "line": {"dash": "dot", "color": "#888888"}}],
        "legend": {"orientation": "h", "y": 1.12},
        "margin": {"l": 72, "r": 10, "t": 10, "b": 40},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
    }
    for axis in ("xaxis", "yaxis", "yaxis2", "yaxis3"):
        layout[axis] |= {"gridcolor": _GRID, "zeroline": False}
        layout[axis]["title"]["standoff"] = 6
    figure = graph_objects.Figure(traces, layout).to_plotly_json()
    figure["layout"].pop("template", None)
    return figure


def _hard_negatives(material: Material, training: TrainingTable) -> list[Any]:
    """Some tuples of evenly spaced epochs with what was mined for them."""
    assert material.training_file is not None
    if not material.training_set:
        return []
    mined = hdf5.read(material.training_file, "training", ["mined/epoch", *_MINED])
    epochs = np.unique(mined["mined/epoch"])
    if not len(epochs):
        return []
    chosen = epochs[np.unique(np.linspace(0, len(epochs) - 1, MOST_EPOCHS).round().astype(int))]
    parts: list[Any] = [
        tag("h3", "Hardest negatives"),
        tag("p", "Photographs of other clusters that the network of that epoch found most like the query."),
    ]
    for epoch in chosen.tolist():
        try:
            rows = mined_rows(material.training_set, mined, epoch, TUPLES)
        except NothingToShow:
            continue
        last = epoch == chosen[-1]
        parts.append(details(f"epoch {epoch}", contact_sheet(material, rows), open_=bool(last)))
    return parts


_MINED = ("mined/query", "mined/positive", "mined/negatives")


SECTIONS = (Section("training", "training", place=5, make=training_section, turn=2),)
