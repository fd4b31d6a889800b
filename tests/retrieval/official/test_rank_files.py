"""Somebody's ranks from every kind of file."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from retrieval.official.rank_files import padded, read_ranks
from retrieval.official.ranking import InvalidRankLists
from retrieval.official.readers.common import Benchmark, Score


def small(**changes):
    names = {"query_names": ("q 1", "b.q"), "database_names": ("x", "ä.1", "z"), "distractors": False}
    positives = (np.array([0]), np.array([1]))
    return Benchmark(
        name="small", root=Path(), queries=(), database=(), positives=positives,
        score=lambda _: Score(), **{**names, **changes},
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
    path.write_text("b.q ä.1\nq1\n", encoding="utf-8")
    np.testing.assert_array_equal(read_ranks(path, benchmark), [[-1], [1]])


def test_places_are_kept_where_distractors_are_left_out(tmp_path):
    path = tmp_path / "r.txt"
    path.write_text("q1 3 x 1 z\nb.q\n")
    found = read_ranks(path, small(query_names=("q1", "b.q"), distractors=True))
    np.testing.assert_array_equal(found, [[-1, 2, -1, 0], [-1, -1, -1, -1]])


def test_numbers_that_are_names(tmp_path):
    benchmark = small(query_names=("100", "200"), database_names=("100", "101", "200"))
    path = tmp_path / "r.txt"
    path.write_text("200 101 200\n100 100 101 200\n")
    np.testing.assert_array_equal(read_ranks(path, benchmark), [[0, 1, 2], [1, 2, -1]])
    path.write_text("2 1 0\n0 1\n")
    np.testing.assert_array_equal(read_ranks(path, benchmark), [[2, 1, 0], [0, 1, -1]])
    # queries that are called as positions are: the numbers stay positions
    benchmark = small(query_names=("0", "1"), database_names=("a", "b", "c"))
    path.write_text("1 0\n0 1\n")
    np.testing.assert_array_equal(read_ranks(path, benchmark), [[1, 0], [0, 1]])


def test_a_submission_may_hold_more_queries_and_lack_some(tmp_path):
    path = tmp_path / "r.csv"
    path.write_text("id,images\nignored,none x\nb.q,z x\n")
    found = read_ranks(path, small(query_names=("q1", "b.q"), more_queries=True))
    np.testing.assert_array_equal(found, [[-1, -1], [2, 0]])
    path.write_text("id,images\nignored,x\n")
    with pytest.raises(InvalidRankLists, match="no list for query 'q1' \\(2 in all"):
        read_ranks(path, small(query_names=("q1", "b.q"), more_queries=True))


def test_names_in_several_folders(tmp_path):
    benchmark = small(query_names=("q1", "b.q"), database_names=("day/x.jpg", "night/x.jpg", "night/y.jpg"))
    path = tmp_path / "r.txt"
    path.write_text("q1 night/x.jpg y\nb.q day/x.jpg\n")
    np.testing.assert_array_equal(read_ranks(path, benchmark), [[1, 2], [0, -1]])
    path.write_text("q1 x\nb.q\n")
    with pytest.raises(InvalidRankLists, match="line 1: several images are called 'x'"):
        read_ranks(path, benchmark)


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
    other = small(query_names=("q1", "b.q"))
    assert "no list for query 'q1' (1 in all)" in refused("r.txt", "b.q x\n", other)
    assert "line 3: 'b.q' has a list already" in refused("r.txt", "# best\nb.q x\nb.q z\nq1 x\n", other)
    assert "a place is given twice" in refused("r.txt", "b.q 0 x 0 z\nq1 x\n", other)
    assert "a place before each image" in refused("r.txt", "b.q 0 x 1\nq1 x\n", other)
    assert "place 90000000 is too far" in refused("r.txt", "b.q 90000000 x\nq1 x\n", other)
    assert "positions are 0..2" in refused("r.txt", "0 3\n1\n")
    assert "count from 0" in refused("r.txt", "1 2 3\n3 2 1\n", small(distractors=True))
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
