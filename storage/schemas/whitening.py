"""A whitening: PCAw or Lw."""

from __future__ import annotations

from storage.schemas.layout import SHARE, Dataset, Layout
from storage.schemas.rules import never_rises

WHITENING = Layout(
    name="whitening",
    version=1,
    description="A linear map of descriptors: (x - mean) @ projection.T, then L2.",
    groups={"shrinkage_grid": "shrinkages tried on val"},
    attributes={"method": "lw or pcaw", "shrinkage": "the one chosen"},
    datasets=(
        Dataset("mean", ("D",), ("float64", "float32"), "subtracted first"),
        Dataset(
            "projection",
            ("O", "D"),
            ("float64", "float32"),
            "rows = output dimensions, by decreasing eigenvalue",
        ),
        Dataset(
            "eigenvalues",
            ("O",),
            ("float64", "float32"),
            "of the output dimensions, decreasing",
            optional=True,
        ),
        Dataset(
            "shrinkage_grid/value",
            ("G",),
            "float64",
            "shrinkage: S + value trace(S)/D I",
            optional=True,
            minimum=0,
        ),
        Dataset(
            "shrinkage_grid/map_val",
            ("G",),
            "float64",
            "mAP on val, by whitening.val_mean; nan = not measured",
            optional=True,
            **SHARE,
        ),
    ),
    rules=(never_rises("eigenvalues"),),
)


LAYOUTS = (WHITENING,)
