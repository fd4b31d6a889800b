"""Never worse than before: is the fine-tuned network used, only a whitening, or neither? Decided on val.

The clusters that judge a choice had no part in it (cross-fitting): of every fold, the ridge, the whitening
and the epoch are those that the other folds choose. What is more careful wins where a gain is not sure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from retrieval.benchmarks.geometry import mean_over_clusters, means_of_clusters
from retrieval.benchmarks.val import Mean, mean_over
from retrieval.evaluation.bootstrap import Estimate, bootstrap_mean
from retrieval.whitening.methods import METHODS

BASELINE, TUNED = "off-the-shelf", "fine-tuned"
AS_IT_WAS, ONLY_WHITEN, FINE_TUNED = CANDIDATES = ("as it was", "only whiten", "fine-tuned")
"""From the most careful one on."""
LEVEL = 0.8
"""Share of the resamples of clusters inside an interval: a gain counts where all of it is above zero."""
RESAMPLES = 2000
MOST_FOLDS, LEAST_CLUSTERS = 5, 3
UNKNOWN = Estimate(np.nan, np.nan, np.nan, np.nan, 0, 0)
_EQUAL = 1e-12

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Modes:
    """How a network does on val by each way to whiten it, the more careful first: raw, PCAw, Lw by falling
    ridge.

    families [M]: raw, pcaw or lw; asked [M, V]: medium AP of each query as a ridge is chosen by it; judged
    [M, V]: its mean over that and the harder rows. nan = no positive. mean: that chooses a ridge.
    """

    families: Sequence[str]
    asked: Values
    judged: Values
    mean: Mean = "queries"

    def best(self, who: Flags, clusters: NDArray[np.int64], among: Sequence[str]) -> int:
        """The mode that some queries (who [V]) choose: of each family the best as a ridge is chosen; of these
        the best judged mean over clusters. Of equal ones the first."""
        kept = []
        for family in dict.fromkeys(name for name in self.families if name in among):
            modes = [mode for mode, name in enumerate(self.families) if name == family]
            means = [mean_over(self.mean, self.asked[mode][who], clusters[who]) for mode in modes]
            kept.append(modes[_first_best(means)])
        scores = [mean_over_clusters(self.judged[mode][who], clusters[who]) for mode in kept]
        return kept[_first_best(scores)]


@dataclass(frozen=True, eq=False)
class Epochs:
    """Medium AP of val [E, V], epoch by epoch of a training, the row of the epoch that was kept, and the mean
    that chose it."""

    average_precisions: Values
    kept: int
    mean: Mean = "queries"

    def correction(self, fold: NDArray[np.int64], clusters: NDArray[np.int64]) -> Values:
        """[V] what the choice of the epoch by these very queries made better than it is: AP of the epoch that
        the other folds choose minus AP of the kept one, at most 0 in the mean of a fold."""
        values = self.average_precisions
        result = np.zeros(values.shape[1])
        for each in np.unique(fold):
            others = fold != each
            means = np.array([mean_over(self.mean, row[others], clusters[others]) for row in values])
            chosen = self.kept if means[self.kept] >= means.max() - _EQUAL else int(np.argmax(means))
            mine = fold == each
            result[mine] = values[chosen, mine] - values[self.kept, mine]
        return result


@dataclass(frozen=True)
class Candidate:
    """One way to search. estimate: judged mean over clusters, cross-fitted; against: the candidate that was
    held when it was asked for, empty for the first; gain: over that one."""

    name: str
    network: str
    whitening: str
    estimate: float
    against: str
    gain: Estimate


@dataclass(frozen=True)
class Verdict:
    """The candidates, from the most careful on, which is used, and why in a sentence."""

    candidates: tuple[Candidate, ...]
    chosen: str
    sentence: str


def judge(
    baseline: Modes, tuned: Modes, clusters: NDArray[np.int64], epochs: Epochs | None = None, seed: int = 0
) -> Verdict:
    """The verdict of the queries of val (clusters [V]).

    epochs: of the training, None where it is not known.
    """
    known = np.isfinite(baseline.judged[0])
    number = np.unique(clusters[known]).size
    if number == 0:
        return WITHOUT_VAL
    everyone = _whole(baseline, tuned, known, clusters)
    if number < LEAST_CLUSTERS:
        why = f"val has {number} clusters with queries, and {LEAST_CLUSTERS} are needed"
        return _undecided(everyone, why)
    values = _cross_fitted(baseline, tuned, clusters, known, epochs)
    if all((each[known] >= 1 - 1e-9).all() for each in values):
        return _undecided(everyone, f"all find everything in the {number} clusters of val")
    held, candidates = 0, []
    for place, (network, whitening) in enumerate(everyone):
        estimate = mean_over_clusters(values[place], clusters)
        gain = gain_over(values[place], values[held], clusters, seed) if place else UNKNOWN
        against = CANDIDATES[held] if place else ""
        candidates.append(Candidate(CANDIDATES[place], network, whitening, estimate, against, gain))
        if gain.low > 0:
            held = place
    return Verdict(tuple(candidates), CANDIDATES[held], _sentence(candidates, held, number))


def gain_over(first: Values, second: Values, clusters: NDArray[np.int64], seed: int) -> Estimate:
    """Mean over clusters of first - second [V], with the interval of LEVEL from resampled clusters."""
    means = means_of_clusters(first - second, clusters)
    generator = np.random.default_rng(seed)
    return bootstrap_mean(means, np.arange(means.size), generator, resamples=RESAMPLES, confidence=LEVEL)


def folds(clusters: NDArray[np.int64]) -> NDArray[np.int64]:
    """[V] the fold of each query: clusters in turn, whole."""
    found, member = np.unique(clusters, return_inverse=True)
    return np.asarray(member % min(MOST_FOLDS, found.size), dtype=np.int64)


def _whole(baseline: Modes, tuned: Modes, known: Flags, clusters: NDArray[np.int64]) -> list[tuple[str, str]]:
    """(network, whitening) of every candidate, the whitening by all of val: what would be used."""
    whitened, best = (
        baseline.best(known, clusters, tuple(METHODS)),
        tuned.best(known, clusters, tuned.families),
    )
    return [
        (BASELINE, "raw"),
        (BASELINE, baseline.families[whitened]),
        (TUNED, tuned.families[best]),
    ]


def _cross_fitted(
    baseline: Modes, tuned: Modes, clusters: NDArray[np.int64], known: Flags, epochs: Epochs | None
) -> list[Values]:
    """[V] judged AP of every candidate, each fold by the choice of the others."""
    fold = np.full(clusters.size, -1)
    fold[known] = folds(clusters[known])
    whitened, best = np.full((2, clusters.size), np.nan)
    for each in np.unique(fold[known]):
        mine, others = fold == each, known & (fold != each)
        whitened[mine] = baseline.judged[baseline.best(others, clusters, tuple(METHODS)), mine]
        best[mine] = tuned.judged[tuned.best(others, clusters, tuned.families), mine]
    if epochs is not None:
        of_known = replace(epochs, average_precisions=epochs.average_precisions[:, known])
        best[known] += of_known.correction(fold[known], clusters[known])
    return [baseline.judged[0], whitened, best]


def _first_best(values: Sequence[float]) -> int:
    """Position of the largest value, the first of equal ones."""
    return next(place for place, value in enumerate(values) if value >= max(values) - _EQUAL)


def _undecided(everyone: Sequence[tuple[str, str]], why: str) -> Verdict:
    candidates = tuple(
        Candidate(name, *pair, np.nan, AS_IT_WAS if place else "", UNKNOWN)
        for place, (name, pair) in enumerate(zip(CANDIDATES, everyone, strict=True))
    )
    return Verdict(candidates, AS_IT_WAS, f"cannot tell: {why}; left as it was, the network off the shelf")


WITHOUT_VAL = _undecided(
    [(BASELINE, "raw"), (BASELINE, "lw"), (TUNED, "lw")], "val has no query with a positive"
)
"""Where nothing can be asked. The whitenings are those that are learnt with most care; none is chosen."""


def _sentence(candidates: Sequence[Candidate], held: int, number: int) -> str:
    what = (
        "left as it was, the network off the shelf",
        f"only whiten: the network off the shelf with {METHODS.get(candidates[1].whitening, 'raw')}",
        f"use the fine-tuned network, {METHODS.get(candidates[2].whitening, 'raw')}",
    )
    gains = [
        f"{each.name} {100 * each.gain.value:+.1f} points ({100 * each.gain.low:+.1f} to "
        f"{100 * each.gain.high:+.1f}) over {each.against}"
        for each in candidates[1:]
    ]
    return f"{what[held]}; {', '.join(gains)} ({LEVEL:.0%} interval over {number} clusters of val)"
