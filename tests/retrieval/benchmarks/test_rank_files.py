"""Somebody's ranks from every kind of file."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from retrieval.benchmarks.common import Benchmark, Score
from retrieval.benchmarks.rank_files import padded, read_ranks
from retrieval.benchmarks.ranking import InvalidRankLists


def small(**changes):
    names = {"query_names": ("q 1", "b.q"), "database_names": ("x", "ä.1", "z"), "distractors": False}
    positives = (np.array([0]), np.array([1]))
    return Benchmark(
        name="small", root=Path(), queries=(), database=(), positives=positives,
        score=lambda _: Score((), {}), **{**names, **changes},
    )  # fmt: skip


ROWS = np.array([[2, 0, 1], [1, -1, -1]])


@pytest.mark.parametrize("name", ["r.npy", "r.npz", "r.h5", "r.txt", "r.csv", "other.npz"])
def test_formats(tmp_path, name):
    path = tmp_path / name
    if path.suffix == ".npy":
        np.save(path, ROWS.astype(np.int32))
    elif name == "other.npz":
        np.savez(path, alone=ROWS)
    elif path.suffix == ".npz":
        np.savez(path, ranks=ROWS, more=1)
    elif path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            file["ranks"], file["scores"] = ROWS, ROWS * 0.5
    else:
        path.write_text("# best first\n" + ("2,0,1\n1\n" if path.suffix == ".csv" else "2 0 1\n\n1 -1 -1\n"))
    np.testing.assert_array_equal(read_ranks(path, small()), ROWS)


def test_names_in_any_order_with_folders_and_places(tmp_path):
    benchmark = small(query_names=("q1", "b.q"))
    path = tmp_path / "r.txt"
    path.write_text("b.q ä.1\nfolder/q1.jpg 1 x.jpg 0 z.png 2 d/ä.1.jpg\n", encoding="utf-8")
    np.testing.assert_array_equal(read_ranks(path, benchmark), ROWS)
    path.write_text("b.q ä.1\n", encoding="utf-8")
    np.testing.assert_array_equal(read_ranks(path, benchmark), [[-1], [1]])


def test_sequences_keep_their_commas(tmp_path):
    benchmark = small(
        query_names=("a,b", "c,d"), database_names=("e,f", "g,h"), query_frames=2, database_frames=2
    )
    (tmp_path / "p.txt").write_text("# head\na,b g,h e,f\nc,d e,f\n")
    np.testing.assert_array_equal(read_ranks(tmp_path / "p.txt", benchmark), [[1, 0], [0, -1]])


def test_a_large_npy_stays_on_disk_and_distractors_are_ids_beyond(tmp_path):
    np.save(tmp_path / "r.npy", np.array([[7], [0]]))
    found = read_ranks(tmp_path / "r.npy", small(distractors=True))
    assert isinstance(found, np.memmap) and found.tolist() == [[7], [0]]
    with pytest.raises(InvalidRankLists, match="hold 7"):
        read_ranks(tmp_path / "r.npy", small())


def test_padded():
    assert padded([[1], [2, 3], []]).tolist() == [[1, -1], [2, 3], [-1, -1]]
    assert padded([[], []]).shape == (2, 0)


def test_bad_files_are_named(tmp_path):
    def refused(name, text, benchmark=None):
        (tmp_path / name).write_bytes(text.encode())
        with pytest.raises(InvalidRankLists) as error:
            read_ranks(tmp_path / name, benchmark or small())
        return str(error.value)

    with pytest.raises(InvalidRankLists, match="is no file"):
        read_ranks(tmp_path / "no.npy", small())
    assert "is empty" in refused("r.txt", "\n")
    assert "line 1: 'who' is no query of small" in refused("r.txt", "who x\n")
    assert "'y' is no database image" in refused("r.txt", "b.q y\n")
    assert "rows for 2 queries" in refused("r.txt", "0 1\n")
    assert "cannot be read as ranks" in refused("r.txt", "0 1\n0 one\n")
    for end in ("npy", "npz", "h5"):
        assert "cannot be read as ranks" in refused(f"r.{end}", "nothing")
    np.savez(tmp_path / "r.npz", a=ROWS, b=ROWS)
    with pytest.raises(InvalidRankLists, match="array called 'ranks'"):
        read_ranks(tmp_path / "r.npz", small())
    np.save(tmp_path / "r.npy", np.array([{}], dtype=object))
    with pytest.raises(InvalidRankLists, match="cannot be read"):
        read_ranks(tmp_path / "r.npy", small())
