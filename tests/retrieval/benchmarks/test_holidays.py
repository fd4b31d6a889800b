import json

import numpy as np
import pytest

from retrieval.benchmarks.holidays import InvalidHolidays, evaluate_holidays, queries_of, read_image_list
from tests.official import needs, official

ORACLE = official("oracles", "holidays", "holidays_map.json")
IMAGES = official("groundtruth", "holidays", "holidays_images.dat")


def lists_of(case):
    results = {}
    for line in case["results"]:
        query, *rest = line.split()
        results[query] = rest[1::2]
    return results


@needs(ORACLE)
def test_oracle():
    for case in json.loads(ORACLE.read_text()):
        results = lists_of(case)
        # the official script prints five decimals
        assert evaluate_holidays(results).mean_average_precision == pytest.approx(case["mAP"], abs=5.1e-6)
        assert evaluate_holidays(results, case["images"]) == evaluate_holidays(results)


def test_only_ranks_after_the_query_move_up():
    images = ["100.jpg", "101.jpg", "102.jpg", "200.jpg", "201.jpg"]
    before = evaluate_holidays({"100.jpg": ["100.jpg", "101.jpg", "200.jpg", "102.jpg"]}, images)
    # ranks 0 and 2 of 2 positives
    assert before.mean_average_precision == pytest.approx(0.5 + 7 / 24)
    later = evaluate_holidays({"100.jpg": ["200.jpg", "101.jpg", "100.jpg", "102.jpg"]}, images)
    # 101 before the query keeps rank 1, 102 behind it moves from 3 to 2
    assert later.mean_average_precision == pytest.approx(((0 + 1 / 2) + (1 / 2 + 2 / 3)) / 4)


def test_truncated_lists_need_the_names():
    results = {"jpg/100.jpg": ["101"]}
    assert evaluate_holidays(results).mean_average_precision == 1.0
    assert evaluate_holidays(results, ["100", "101", "102"]).mean_average_precision == 0.5


def test_query_without_positives_is_left_out():
    result = evaluate_holidays({"100": ["101"], "300": ["101"]})
    assert result.mean_average_precision == 1.0 and np.isnan(result.average_precisions["300"])


@needs(IMAGES)
def test_official_list():
    images = read_image_list(IMAGES)
    queries = queries_of(images)
    assert (len(images), len(queries)) == (1491, 500)
    perfect, worst = {}, {}
    for query in queries:
        same = [name for name in images if name[:-6] == query[:-6] and name != query]
        others = [name for name in images if name[:-6] != query[:-6]]
        perfect[query], worst[query] = [query, *same, *others], [query, *others, *same]
    assert evaluate_holidays(perfect).mean_average_precision == pytest.approx(1.0)
    result = evaluate_holidays(worst)
    num, rest = len(same), len(others)
    places = np.arange(rest, rest + num)
    wanted = np.mean((np.arange(num) / places + np.arange(1, num + 1) / (places + 1)) / 2)
    assert result.average_precisions[queries[-1]] == pytest.approx(wanted)


def test_bad_input_is_named(tmp_path):
    with pytest.raises(InvalidHolidays, match="'101' is no query"):
        evaluate_holidays({"101": []})
    with pytest.raises(InvalidHolidays, match=r"'x\.jpg' is no image"):
        evaluate_holidays({"100": ["x.jpg"]})
    with pytest.raises(InvalidHolidays, match=r"expected holidays_images\.dat"):
        read_image_list(tmp_path / "nothing")
    (tmp_path / "jpg").mkdir()
    (tmp_path / "jpg" / "100000.jpg").touch()
    assert read_image_list(tmp_path) == ["100000.jpg"]
