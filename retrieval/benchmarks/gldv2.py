"""Google Landmarks v2 retrieval: mAP@100 as DELF's `google_landmarks_dataset/metrics.py` computes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


class InvalidPredictions(ValueError):
    """Predictions that do not belong to the solution."""


@dataclass(frozen=True)
class Gldv2Result:
    """mAP@k over the queries of the solution that count, 0..1; AP of each."""

    mean_average_precision: float
    average_precisions: Mapping[str, float]


def evaluate_gldv2(
    predictions: Mapping[str, Sequence[str]], solution: Mapping[str, Sequence[str]], k: int = 100
) -> Gldv2Result:
    """Score {query: [ids best first]} against {query: [ids of its positives]}.

    AP = sum of the precisions at hits / min(number of positives, k); a repeated id is skipped but keeps its
    position. A query without predictions scores 0; one with predictions but without positives (where the
    official code divides by zero) is left out. Raises InvalidPredictions on a query that the solution does
    not have, or k < 1.
    """
    if k < 1:
        raise InvalidPredictions(f"k is {k}; 1 or more")
    unknown = [query for query in predictions if query not in solution]
    if unknown:
        raise InvalidPredictions(f"query '{unknown[0]}' ({len(unknown)} in all) is not part of the solution")
    values: dict[str, float] = {}
    for query, positives in solution.items():
        if query in predictions and not len(positives):
            continue
        wanted, seen, total, hits = set(positives), set(), 0.0, 0
        for position, name in enumerate(list(predictions.get(query, ()))[:k], 1):
            if name in wanted and name not in seen:
                hits += 1
                total += hits / position
            seen.add(name)
        values[query] = total / max(1, min(len(positives), k))
    mean = sum(values.values()) / len(values) if values else float("nan")
    return Gldv2Result(mean, values)
