"""`evaluate` on a miniature of MSLS: images and sequences, a subset of the queries, the challenge's file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from flows.server.context import Session
from tests.flows.benchmark_folders import Pixels, evaluate, noisy, numbers, put, scene

Row = tuple[str, str, int, float, Pixels]


def side(folder: Path, rows: list[Row], *, labelled: bool = True) -> None:
    """rows: key, sequence, frame number, easting, pixels."""
    folder.mkdir(parents=True)
    table = pd.DataFrame(
        [row[:4] for row in rows], columns=["key", "sequence_key", "frame_number", "easting"]
    )
    table["northing"], table["all"], table["pano"] = 6_000_000.0, True, False
    table["s2w"] = [number % 2 == 0 for number in range(len(rows))]
    if labelled:
        table[["key", "easting", "northing"]].to_csv(folder / "postprocessed.csv")
        table[["key", "pano"]].to_csv(folder / "raw.csv")
    table[["key", "sequence_key", "frame_number"]].to_csv(folder / "seq_info.csv")
    table[["all", "s2w"]].to_csv(folder / "subtask_index.csv")
    for key, *_, pixels in rows:
        put(folder / "images" / f"{key}.jpg", pixels)


def queries(city: str, first: int) -> list[Row]:
    return [(f"{city}q{n}", f"{city}s", n, 100.0 * n, scene(first + n)) for n in range(3)]


def database(city: str, first: int) -> list[Row]:
    """Query 0 and 1 have their place, nearest in looks; of query 2 the nearest is 60 m off, the place far."""
    looks = [noisy(scene(first + n), 7) for n in range(3)]
    rows = [(f"{city}d{n}", f"{city}t", n, 100.0 * n + (60 if n == 2 else 25), looks[n]) for n in range(3)]
    return [*rows, (f"{city}d3", f"{city}t", 9, 200.0, noisy(scene(first + 2), 30))]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for city, first in (("cph", 0), ("sf", 20)):
        base = tmp_path / "msls" / "train_val" / city
        side(base / "query", queries(city, first))
        side(base / "database", database(city, first))
    for number, city in enumerate(("miami", "athens", "buenosaires", "stockholm", "bengaluru", "kampala")):
        base = tmp_path / "msls" / "test" / city
        side(base / "query", queries(city, 40 + 3 * number), labelled=False)
        side(base / "database", database(city, 40 + 3 * number), labelled=False)
    return tmp_path


def run(root: Path, tmp_path: Path, network: Path, name: str, *more: object) -> Any:
    result = evaluate(name, root, tmp_path / "store", "--network", network, "--image-size", 64,
                      "--csv", tmp_path / "a.csv", *more)  # fmt: skip
    assert result.exit_code == 0, result.output
    return numbers(tmp_path / "a.csv")


def test_validation_by_hand(server: Session, network: Path, root: Path, tmp_path: Path) -> None:
    found = run(root, tmp_path, network, "msls", "--predictions", tmp_path / "p.txt")
    # of three queries in each city two are found first, the third second
    assert found["", "recall@1"] == pytest.approx(200 / 3, abs=1e-5) and found["", "recall@5"] == 100
    assert found["", "map@1"] == found["", "recall@1"]
    assert found["", "map@5"] == pytest.approx(100 * (1 + 1 + 1 / 2) / 3, abs=1e-5)
    assert "im2im, all" in (tmp_path / "a.csv").read_text()
    lines = [line.split() for line in (tmp_path / "p.txt").read_text().splitlines()]
    assert [line[0] for line in lines] == ["cphq0", "cphq1", "cphq2", "sfq0", "sfq1", "sfq2"]
    assert lines[2][1:3] == ["cphd2", "cphd3"] and len(lines[0]) == 1 + 8
    result = evaluate(
        "msls", root, tmp_path / "store", "--ranks", tmp_path / "p.txt", "--csv", tmp_path / "b.csv"
    )
    assert result.exit_code == 0, result.output
    assert numbers(tmp_path / "b.csv") == found


def test_a_subset_and_a_subtask(server: Session, network: Path, root: Path, tmp_path: Path) -> None:
    (tmp_path / "740.txt").write_text("x/cph/query/images/cphq2.jpg\nsfq0\n")
    subset = run(root, tmp_path, network, "msls", "--protocol", f"subset={tmp_path / '740.txt'}")
    assert subset["", "recall@1"] == 50
    assert "2 queries of the list 740.txt" in (tmp_path / "a.csv").read_text()
    s2w = run(root, tmp_path, network, "msls", "--protocol", "subtask=s2w")
    # queries 0 and 2; database 0 and 2: of query 2 the place is not in the subtask, so it is left out
    assert s2w["", "recall@1"] == 100


def test_sequences(server: Session, network: Path, root: Path, tmp_path: Path) -> None:
    found = run(root, tmp_path, network, "msls", "--protocol", "task=seq2seq")
    # one sequence of three frames on each side of each city
    assert found["", "recall@1"] == 100 and found["", "map@5"] == 100
    text = (tmp_path / "a.csv").read_text()
    assert "seq2seq, all" in text


def test_the_challenge_gets_a_prediction_file(
    server: Session, network: Path, root: Path, tmp_path: Path
) -> None:
    found = run(root, tmp_path, network, "msls_challenge", "--predictions", tmp_path / "p.txt")
    assert found == {}
    lines = [line.split() for line in (tmp_path / "p.txt").read_text().splitlines()]
    assert len(lines) == 18 and all(len(line) == 1 + 24 for line in lines)
    assert lines[0][:2] == ["miamiq0", "miamid0"]


def test_what_is_missing_is_named(root: Path, tmp_path: Path) -> None:
    def refused(name: str, *more: object) -> str:
        result = evaluate(name, root, tmp_path / "store", *more)
        assert result.exit_code == 2 and "Traceback" not in result.output, result.output
        return str(result.output)

    assert "is a file of the MSLS challenge" in refused("places", "--predictions", tmp_path / "p.txt")
    assert "the length is odd" in refused("msls", "--protocol", "sequence_length=2")
    (tmp_path / "none.txt").write_text("nobody\n")
    assert "no query is left" in refused("msls", "--protocol", f"subset={tmp_path / 'none.txt'}")
    base = root / "msls" / "train_val" / "sf" / "query"
    (base / "images" / "sfq1.jpg").unlink()
    assert "sfq1.jpg' is missing (1 of 6" in refused("msls")
    (base / "raw.csv").unlink()
    assert "raw.csv' is missing" in refused("msls")
    (root / "msls" / "test" / "miami" / "database" / "seq_info.csv").unlink()
    assert "seq_info.csv' is missing" in refused("msls_challenge")
