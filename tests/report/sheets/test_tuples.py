"""The contact sheet: which photographs stand where, and that they are drawn there."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from report.sheets.tuples import NothingToShow, paint_sheet, tuple_rows


def world() -> dict[str, Any]:
    """Clusters of three: 0-2, 3-5, 6-8 in train, 9-11 in val; 12 alone, allowed for cluster 0 only."""
    cluster = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4])
    others = [[m for m in range(12) if m // 3 == n // 3 and m != n] for n in range(12)]
    flat = np.array([image for row in others for image in row])
    indptr = np.arange(0, 25, 2)
    return {
        "images/cluster": cluster,
        "images/split": np.array([0] * 9 + [1] * 3 + [0], dtype=np.int8),
        "queries/image": np.arange(12),
        "queries/split": np.array([0] * 9 + [1] * 3, dtype=np.int8),
        "candidates/indptr": indptr,
        "candidates/image": flat,
        "candidates/overlap": np.full(24, 0.5, dtype=np.float32),
        "candidates/scale_change": np.full(24, 1.25, dtype=np.float32),
        "positives/m1_pool/indptr": indptr,
        "positives/m1_pool/image": flat,
        "positives/m2": np.array([row[1] for row in others]),
        "positives/m3/indptr": np.append(np.arange(12), 12),
        "positives/m3/image": flat[::2],
        "negatives/image": np.array([12]),
        "negatives/cluster": np.array([0]),
        "negatives/allowed": np.array([True]),
    }


def descriptors() -> np.ndarray:
    angle = np.radians([0, 10, 3, 40, 41, 42, 60, 61, 62, 5, 6, 7, 20])
    return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)


def test_rows_by_hand() -> None:
    rows = tuple_rows(world(), descriptors(), 3)
    assert [row[0].image for row in rows] == [0, 3, 6]
    shown = [[(tile.column, tile.image) for tile in row[1:]] for row in rows]
    assert shown[0][:4] == [("m1", 2), ("m1", 1), ("m2", 2), ("m3", 1)]  # the nearest of the pool first
    assert shown[0][4:] == [("negative", 12), ("negative", 3), ("negative", 6)]
    assert shown[1][4:] == [("negative", 6), ("negative", 1)]  # one of a cluster, 12 has no verdict
    assert rows[0][1].caption == "overlap 0.50, scale 1.25"
    assert rows[0][5].caption == "cluster 4, similarity 0.94"


def test_more_rows_than_clusters_and_no_descriptors() -> None:
    rows = tuple_rows(world(), None, 5)
    assert [row[0].image for row in rows] == [0, 1, 3, 4, 6]
    assert {tile.column for row in rows for tile in row} == {"query", "m1", "m2", "m3"}
    assert len(tuple_rows(world(), None, 100)) == 9
    assert [row[0].image for row in tuple_rows(world(), None, 2)] == [0, 6]


def test_exclusions_are_honoured() -> None:
    arrays = world() | {
        "negatives/excluded/indptr": np.append([0], np.full(12, 2)),
        "negatives/excluded/image": np.array([3, 12]),
    }
    row = tuple_rows(arrays, descriptors(), 1)[0]
    assert [tile.image for tile in row if tile.column == "negative"] == [4, 6]


def test_nothing_to_show() -> None:
    arrays = world() | {"queries/split": np.ones(12, dtype=np.int8)}
    with pytest.raises(NothingToShow):
        tuple_rows(arrays)


def test_the_photographs_are_drawn(tmp_path: Path) -> None:
    rows = tuple_rows(world(), descriptors(), 3)
    out = tmp_path / "she et é.png"

    def load(image: int) -> np.ndarray:
        return np.full((40, 60, 3), 10 + 15 * image, dtype=np.uint8)

    paint_sheet(rows, load).save(out)
    sheet = np.asarray(Image.open(out))
    grey = {10 + 15 * tile.image for row in rows for tile in row}
    colours, counts = np.unique(sheet.reshape(-1, 3), axis=0, return_counts=True)
    areas = {int(colour[0]) for colour in colours[counts > 1500] if len(set(colour.tolist())) == 1}
    assert areas - {225, 255} == grey  # those and the paper, no other photograph
    assert [path.name for path in tmp_path.iterdir()] == ["she et é.png"]
    middle = sheet[22 + 75, 6 + 75]
    assert middle.tolist() == [10, 10, 10]  # the first query is photograph 0
