import json

import pytest

from retrieval.benchmarks.gldv2 import InvalidPredictions, evaluate_gldv2
from tests.official import needs, official

ORACLE = official("oracles", "gldv2", "metrics.json")


@needs(ORACLE)
def test_oracle():
    for case in json.loads(ORACLE.read_text()):
        result = evaluate_gldv2(case["predictions"], case["solution"], case["k"])
        assert result.mean_average_precision == pytest.approx(case["MeanAveragePrecision"], abs=1e-12)


def test_by_hand():
    # a repeated id keeps its position but does not count: hits at 1 and 4 of min(3, 4)
    result = evaluate_gldv2({"q": ["a", "a", "x", "b"]}, {"q": ["a", "b", "c"]}, k=4)
    assert result.mean_average_precision == pytest.approx((1 + 2 / 4) / 3)
    assert (
        evaluate_gldv2({"q": ["a", "a", "x", "b"]}, {"q": ["a", "b", "c"]}, k=2).mean_average_precision == 0.5
    )


def test_missing_predictions_score_zero():
    result = evaluate_gldv2({"q": ["a"]}, {"q": ["a"], "r": ["b"], "s": []})
    assert result.mean_average_precision == pytest.approx(1 / 3)
    # the official code divides by zero here
    result = evaluate_gldv2({"q": ["a"], "s": ["a"]}, {"q": ["a"], "r": ["b"], "s": []})
    assert result.mean_average_precision == 0.5 and "s" not in result.average_precisions


def test_bad_input_is_named():
    with pytest.raises(InvalidPredictions, match="'z'"):
        evaluate_gldv2({"z": ["a"]}, {"q": ["a"]})
    with pytest.raises(InvalidPredictions, match="k is 0"):
        evaluate_gldv2({}, {"q": ["a"]}, k=0)
