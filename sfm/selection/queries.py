"""Which photographs of a model become queries: a share of each model, spread out, each with a positive.

The paper takes 10 % of a model's images, at most 30. On a small collection that trains nothing, so the
share rises by itself until train has enough queries.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sfm.selection import strategies
from sfm.selection.model_views import CandidateRow, ModelView
from sfm.training_set.splits import TRAIN

if TYPE_CHECKING:
    from sfm.selection.choosing import SelectionOptions

PAPER_FRACTION = 0.10


class Sampler:
    """Draws the queries of one model in farthest-point order and keeps where it stopped, so that more can
    be asked.
    """

    def __init__(self, view: ModelView, options: SelectionOptions) -> None:
        self.view, self._options = view, options
        self.rows: dict[int, CandidateRow] = {}
        self.refused = 0
        self._order = view.spread()

    def draw(self, count: int) -> None:
        """Go on until `count` queries are there or no image is left. A query needs a positive (m3)."""
        while len(self.rows) < count:
            following = next(self._order, None)
            if following is None:
                return
            image, shared, accept = following
            row = self.view.candidates(image, self._options.pool_k, shared)
            if strategies.good(row.overlap, row.scale_change, self._options).any():
                accept()
                self.rows[image] = row
            else:
                self.refused += 1


def draw_queries(
    samplers: Sequence[Sampler], model_splits: NDArray[np.int8], options: SelectionOptions
) -> float:
    """Draw every model's queries; returns the fraction that was used."""
    sizes = np.array([sampler.view.photo.size for sampler in samplers])
    automatic = options.query_fraction == "auto"
    fraction = PAPER_FRACTION if options.query_fraction == "auto" else float(options.query_fraction)
    _draw_all(samplers, _quotas(sizes, fraction, options, options.max_queries_per_model))
    for step in range(2, 11) if automatic else ():
        if _train_queries(samplers, model_splits) >= options.min_train_queries:
            break
        fraction = step / 10
        _draw_all(samplers, _quotas(sizes, fraction, options, None))
    return fraction


def _draw_all(samplers: Sequence[Sampler], quotas: NDArray[np.int64]) -> None:
    for sampler, quota in zip(samplers, quotas.tolist(), strict=True):
        sampler.draw(quota)
        sampler.view.release()


def _quotas(
    sizes: NDArray[np.int64], fraction: float, options: SelectionOptions, most: int | None
) -> NDArray[np.int64]:
    quota = np.maximum(np.floor(fraction * sizes + 0.5).astype(np.int64), options.min_queries_per_model)
    return np.minimum(quota, sizes if most is None else most)


def _train_queries(samplers: Sequence[Sampler], model_splits: NDArray[np.int8]) -> int:
    return sum(len(s.rows) for s, split in zip(samplers, model_splits, strict=True) if split == TRAIN)
