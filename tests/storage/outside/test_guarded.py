"""Files from outside: a hang, a crash or too much memory is one line that names the file."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from sfm.lists.select import read_list
from storage.files.errors import ArtifactError, DamagedArtifact, NotAnArtifact
from storage.hdf5.digests import cached_content_sha256, content_sha256
from storage.hdf5.outside import read_whole
from storage.hdf5.texts import announced_bytes, rows_of_texts
from storage.inspect.describe import describe
from storage.outside.guarded import read_outside
from tests.official import needs, official
from tests.storage.layout_samples import SAMPLES, write_sample

CASES = official("cases")
HERE = "tests.storage.outside.test_guarded:"


def spin(path: Path, *, watch: Callable[[str], None]) -> None:
    """Work that never ends."""
    watch("the heap")
    while True:
        pass


def take(path: Path, *, watch: Callable[[str], None]) -> int:
    """More memory than a small file can need."""
    return len(bytearray(16 << 30))


def crash(path: Path, *, watch: Callable[[str], None]) -> None:
    """What a library does that follows a damaged address."""
    os.kill(os.getpid(), signal.SIGSEGV)


def deep(path: Path, *, watch: Callable[[str], None]) -> None:
    """Recursion without end."""
    deep(path, watch=watch)


def size(path: Path, *, watch: Callable[[str], None]) -> int:
    """A reader that works, in more steps than one step's time would allow for all of them."""
    end = time.process_time() + 1
    while time.process_time() < end:
        watch("")
    return path.stat().st_size


@pytest.mark.parametrize(
    ("reader", "message"),
    [
        ("spin", "comes to no end"),
        ("crash", "SIGSEGV"),
        ("take", "too much memory"),
        ("deep", "nested too deep"),
    ],
)
def test_what_goes_wrong_in_a_reader_names_the_file(tmp_path: Path, reader: str, message: str) -> None:
    (tmp_path / "given.h5").write_bytes(b"x")
    with pytest.raises(DamagedArtifact, match=rf"given\.h5: .*{message}"):
        read_outside(HERE + reader, tmp_path / "given.h5", step_s=0.5)


def test_a_reader_that_makes_progress_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / "given.h5").write_bytes(b"x")
    assert read_outside(HERE + "size", tmp_path / "given.h5", step_s=0.5) == 1


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_a_sound_file_is_read_as_its_store_reads_it(tmp_path: Path, name: str) -> None:
    from storage.hdf5.file import read

    path = write_sample(tmp_path / "a.h5", name)
    found, wanted = read_whole(path, name, watch=lambda _: None).arrays, read(path, name)
    assert set(found) == set(wanted)
    for column in wanted:
        np.testing.assert_array_equal(found[column], wanted[column])


def test_a_broken_promise_between_columns_is_found_before_use(tmp_path: Path) -> None:
    path = write_sample(tmp_path / "set.h5", "training_set")
    with h5py.File(path, "r+") as file:
        file["queries/image"][0] = 10_000
    with pytest.raises(ArtifactError, match=r"set\.h5: queries/image"):
        read_list(path)


def test_the_digest_of_a_given_file_is_that_of_its_content(tmp_path: Path) -> None:
    path = write_sample(tmp_path / "a.h5", "scene")
    assert cached_content_sha256(path) == content_sha256(path)
    (tmp_path / "folder").mkdir()
    write_sample(tmp_path / "folder" / "b.h5", "pairs")
    (tmp_path / "folder" / "c.txt").write_text("x")
    assert cached_content_sha256(tmp_path / "folder") == content_sha256(tmp_path / "folder")


def _one_text_in_every_row(path: Path, chunks: tuple[int, ...] | None) -> None:
    """A column of 2000 texts that all point to one of a megabyte."""
    rows = np.array(["x" * 1_000_000, *["y"] * 1999], dtype=object)
    with h5py.File(path, "w") as file:
        column = file.create_dataset("names", data=rows, dtype=h5py.string_dtype(), chunks=chunks)
        places = [column.id.get_chunk_info(at) for at in range(column.id.get_num_chunks())] if chunks else []
        pieces = [(each.byte_offset, each.size) for each in places] or [(column.id.get_offset(), 32_000)]
    content = bytearray(path.read_bytes())
    first = content[pieces[0][0] : pieces[0][0] + 16]
    for offset, length in pieces:
        content[offset : offset + length] = first * (length // 16)
    path.write_bytes(content)


@pytest.mark.parametrize("chunks", [None, (100,)])
def test_one_text_in_every_row_is_refused_before_it_is_read(
    tmp_path: Path, chunks: tuple[int, ...] | None
) -> None:
    _one_text_in_every_row(tmp_path / "a.h5", chunks)
    with h5py.File(tmp_path / "a.h5") as file:
        assert announced_bytes(file["names"]) == (None if chunks else 2_000_000_000)
        with pytest.raises(OSError, match=r"claims \d+ bytes of texts, the whole file has"):
            rows_of_texts(file["names"], 0, 2000)
        assert file["names"][0] == b"x" * 1_000_000


def test_inspecting_such_a_file_says_so(tmp_path: Path) -> None:
    _one_text_in_every_row(tmp_path / "a.h5", None)
    assert any("bytes of texts" in str(each) for each in describe(tmp_path / "a.h5").violations) or (
        "bytes of texts" in str(describe(tmp_path / "a.h5"))
    )


def test_texts_of_a_sound_file_are_counted(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("names", data=["ab", "", "ü"], dtype=h5py.string_dtype())
        file.create_dataset("none", data=np.array([], object), dtype=h5py.string_dtype())
    with h5py.File(tmp_path / "a.h5") as file:
        assert announced_bytes(file["names"]) == 4 and announced_bytes(file["none"]) == 0
        assert rows_of_texts(file["names"], 1, 3).tolist() == [b"", "ü".encode()]


@needs(CASES)
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("damaged_hdf5/h5_245.h5", "comes to no end"),
        ("deep_json/jsondeep.h5", "JSON"),
        ("foreign_training_set/ext.h5", "images"),
    ],
)
def test_the_cases_of_training_sets(name: str, message: str) -> None:
    path = CASES / name
    with pytest.raises(ArtifactError, match=message) as raised:
        read_list(path)
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)


@needs(CASES)
def test_the_case_of_an_index() -> None:
    from retrieval.search.index import SearchIndex, UnusableIndex

    with pytest.raises(UnusableIndex, match=r"index_291\.h5.*comes to no end"):
        SearchIndex.load(CASES / "damaged_hdf5" / "index_291.h5")


def test_a_file_that_is_open_for_writing_elsewhere_is_named_as_such(tmp_path: Path) -> None:
    path = write_sample(tmp_path / "set.h5", "training_set")
    with (
        h5py.File(path, "r+"),
        pytest.raises(ArtifactError, match=r"set\.h5: another program has it open for writing"),
    ):
        read_list(path)


def test_a_file_of_another_kind_is_named(tmp_path: Path) -> None:
    (tmp_path / "set.h5").write_text("hello")
    with pytest.raises(NotAnArtifact, match=r"set\.h5"):
        read_list(tmp_path / "set.h5")
