"""Never worse than before: is the fine-tuned network used, only a whitening, or neither?

The clusters that judge a choice had no part in it (cross-fitting): of every fold, the ridge, the whitening
and the epoch are those that the other folds choose. Val judges; whether to whiten a network that learnt
nothing train judges too, by whitenings that are learnt from the other folds. What is more careful wins where
a gain is not sure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from retrieval.benchmarks.geometry import folds, mean_over_clusters, means_of_clusters
from retrieval.benchmarks.val import Mean, mean_over
from retrieval.evaluation.bootstrap import Estimate, bootstrap_mean
from retrieval.whitening.methods import METHODS

BASELINE, TUNED = "off-the-shelf", "fine-tuned"
VAL, TRAIN_AND_VAL = "val", "train and val"
AS_IT_WAS, ONLY_WHITEN, FINE_TUNED = CANDIDATES = ("as it was", "only whiten", "fine-tuned")
"""From the most careful one on."""
LEVEL = 0.8
"""Share of the resamples of clusters inside an interval: a gain counts where all of it is above zero."""
RESAMPLES = 2000
LEAST_CLUSTERS = 3
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


@dataclass(frozen=True, eq=False)
class Judges:
    """How a network off the shelf does on queries (clusters [Q]) of the splits that `where` names."""

    modes: Modes
    clusters: NDArray[np.int64]
    where: str


def judge(
    baseline: Modes,
    tuned: Modes,
    clusters: NDArray[np.int64],
    epochs: Epochs | None = None,
    seed: int = 0,
    of_whitening: Judges | None = None,
) -> Verdict:
    """The verdict of the queries of val (clusters [V]).

    epochs: of the training, None where it is not known; of_whitening: who judges whether to whiten, in place
    of val.
    """
    judges = of_whitening or Judges(baseline, clusters, VAL)
    raw, whitened = _whitened(judges.modes, judges.clusters)
    values = [*_whitened(baseline, clusters), _tuned(tuned, clusters, epochs)]
    used = _used(judges, tuned, clusters)
    first = _asked(raw, whitened, judges.clusters, judges.where, seed)
    held = 1 if first.gain.low > 0 else 0
    second = _asked(values[held], values[2], clusters, VAL, seed)
    against, gains = ("", AS_IT_WAS, CANDIDATES[held]), (UNKNOWN, first.gain, second.gain)
    held = 2 if second.gain.low > 0 else held
    estimates = [mean_over_clusters(each, clusters) for each in values]
    candidates = tuple(map(Candidate, CANDIDATES, *zip(*used, strict=True), estimates, against, gains))
    return Verdict(candidates, CANDIDATES[held], _sentence(candidates, held, first, second))


@dataclass(frozen=True)
class _Answer:
    """Gain of one candidate over another, by clusters of the splits `where`; why it cannot be told, or ''."""

    gain: Estimate
    where: str
    unknown: str = ""


def _asked(before: Values, after: Values, clusters: NDArray[np.int64], where: str, seed: int) -> _Answer:
    known = np.isfinite(before) & np.isfinite(after)
    number = np.unique(clusters[known]).size
    if number == 0:
        return _Answer(UNKNOWN, where, f"{where} has no query with a positive")
    if number < LEAST_CLUSTERS:
        clusters_there = "1 cluster" if number == 1 else f"{number} clusters"
        text = f"{where} has {clusters_there} with queries, and {LEAST_CLUSTERS} are needed"
        return _Answer(UNKNOWN, where, text)
    if min(before[known].min(), after[known].min()) >= 1 - 1e-9:
        return _Answer(UNKNOWN, where, f"both find everything in the {number} clusters of {where}")
    return _Answer(gain_over(after, before, clusters, seed), where)


def gain_over(first: Values, second: Values, clusters: NDArray[np.int64], seed: int) -> Estimate:
    """Mean over clusters of first - second [V], with the interval of LEVEL from resampled clusters."""
    means = means_of_clusters(first - second, clusters)
    generator = np.random.default_rng(seed)
    return bootstrap_mean(means, np.arange(means.size), generator, resamples=RESAMPLES, confidence=LEVEL)


def _used(judges: Judges, tuned: Modes, clusters: NDArray[np.int64]) -> list[tuple[str, str]]:
    """(network, whitening) of every candidate, by all who judge; where none does, what is learnt with most
    care."""
    whitening = {}
    for name, modes, of, among in (
        (BASELINE, judges.modes, judges.clusters, tuple(METHODS)),
        (TUNED, tuned, clusters, tuned.families),
    ):
        known = np.isfinite(modes.judged[0])
        whitening[name] = modes.families[modes.best(known, of, among)] if known.any() else "lw"
    return [(BASELINE, "raw"), *whitening.items()]


def _crossed(
    modes: Modes, clusters: NDArray[np.int64], among: Sequence[str]
) -> tuple[Values, NDArray[np.int64]]:
    """Judged AP [Q], each fold by the mode that the others choose, and the folds; nan, -1: no positive."""
    known = np.isfinite(modes.judged[0])
    fold, values = np.full(clusters.size, -1), np.full(clusters.size, np.nan)
    if known.any():
        fold[known] = folds(clusters[known])
    for each in np.unique(fold[fold >= 0]):
        mine = fold == each
        values[mine] = modes.judged[modes.best(known & ~mine, clusters, among), mine]
    return values, fold


def _whitened(modes: Modes, clusters: NDArray[np.int64]) -> tuple[Values, Values]:
    """Raw, and whitened as the other folds choose."""
    return modes.judged[0], _crossed(modes, clusters, tuple(METHODS))[0]


def _tuned(modes: Modes, clusters: NDArray[np.int64], epochs: Epochs | None) -> Values:
    values, fold = _crossed(modes, clusters, modes.families)
    known = fold >= 0
    if epochs is not None and known.any():
        of_known = replace(epochs, average_precisions=epochs.average_precisions[:, known])
        values[known] += of_known.correction(fold[known], clusters[known])
    return values


def _first_best(values: Sequence[float]) -> int:
    """Position of the largest value, the first of equal ones; nan is least."""
    known = np.nan_to_num(np.array(values), nan=-1.0)
    return int(np.flatnonzero(known >= known.max() - _EQUAL)[0])


def _sentence(candidates: Sequence[Candidate], held: int, *answers: _Answer) -> str:
    what = (
        "left as it was, the network off the shelf",
        f"only whiten: the network off the shelf with {METHODS.get(candidates[1].whitening, 'raw')}",
        f"use the fine-tuned network, {METHODS.get(candidates[2].whitening, 'raw')}",
    )[held]
    reasons = {answer.unknown for answer in answers}
    if len(reasons) == 1 and "" not in reasons:
        return f"cannot tell: {reasons.pop()}; {what}"
    return "; ".join([what, *map(_clause, candidates[1:], answers)])


def _clause(candidate: Candidate, answer: _Answer) -> str:
    if answer.unknown:
        return f"{candidate.name}: cannot tell, {answer.unknown}"
    value, low, high = (100 * each for each in (answer.gain.value, answer.gain.low, answer.gain.high))
    return (
        f"{candidate.name} {value:+.1f} points ({low:+.1f} to {high:+.1f}) over {candidate.against} "
        f"({LEVEL:.0%} interval over {answer.gain.num_clusters} clusters of {answer.where})"
    )
