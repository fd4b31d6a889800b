"""Files on which the HDF5 library hangs or dies: the reading ends all the same and says where."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import h5py
import pytest

from storage.children.child import Child
from storage.children.errors import ChildFailed
from storage.files.errors import DamagedArtifact
from storage.inspect.describe import describe
from storage.inspect.guarded import describe_limited, guarded
from tests.storage.layout_samples import write_sample

HERE = "tests.storage.inspect.test_guarded"
LIMIT_S = 2.0


def answer(value: int, *, watch: Callable[[str], None]) -> tuple[int, int]:
    watch("thinking")
    return value + 1, os.getpid()


def hang(place: str, *, watch: Callable[[str], None]) -> None:
    watch(place)
    signal.pause()


def die(*, watch: Callable[[str], None]) -> None:
    watch("photos/name")
    os.kill(os.getpid(), signal.SIGSEGV)


def refuse(*, watch: Callable[[str], None]) -> None:
    print("this must not end up among the answers")
    raise DamagedArtifact("no")


def hang_on_a_file(path: Path, *, watch: Callable[[str], None]) -> None:
    watch("photos/name")
    signal.pause()


def damage_text_heap(path: Path, end: bool = True) -> int:
    """Give the last text heap of a file free space of no size: the library walks it in circles. How many
    heaps there are."""
    content = bytearray(path.read_bytes())
    starts = [at for at in range(len(content)) if content[at : at + 4] == b"GCOL"]
    at = starts[-1] if end else starts[0]
    place = at + 16
    while int.from_bytes(content[place : place + 2], "little"):
        length = int.from_bytes(content[place + 8 : place + 16], "little")
        place += 16 + (length + 7) // 8 * 8
    content[place + 8 : place + 16] = bytes(8)
    path.write_bytes(content)
    return len(starts)


def test_a_worker_answers_again_and_again_from_one_process() -> None:
    with Child() as worker:
        first = worker.call(f"{HERE}:answer", 1, time_limit_s=60)
        second = worker.call(f"{HERE}:answer", 5, time_limit_s=60)
    assert (first[0], second[0]) == (2, 6)
    assert first[1] == second[1] != os.getpid()


def test_what_hangs_is_ended_and_the_next_call_works() -> None:
    with Child() as worker:
        before = worker.call(f"{HERE}:answer", 0, time_limit_s=60)[1]
        with pytest.raises(ChildFailed, match=r"no progress within 0\.2 s") as stuck:
            worker.call(f"{HERE}:hang", "points/xyz", time_limit_s=0.2)
        assert stuck.value.at in ("", "points/xyz")  # a slow machine may not have come that far
        with pytest.raises(ProcessLookupError):
            os.kill(before, 0)
        assert worker.call(f"{HERE}:answer", 0, time_limit_s=60)[0] == 1


def test_what_dies_is_named_with_its_place() -> None:
    with Child() as worker, pytest.raises(ChildFailed, match="SIGSEGV") as stuck:
        worker.call(f"{HERE}:die", time_limit_s=60)
    assert stuck.value.at == "photos/name"


def test_errors_come_back_as_they_are() -> None:
    with Child() as worker:
        with pytest.raises(DamagedArtifact, match="no"):
            worker.call(f"{HERE}:refuse", time_limit_s=60)
        assert worker.call(f"{HERE}:answer", 0, time_limit_s=60)[0] == 1


def test_a_sound_file_is_described_as_without_a_process(tmp_path: Path) -> None:
    path = write_sample(tmp_path / "a.h5", "scene")
    assert describe_limited(path, time_limit_s=60) == describe(path)


def test_a_damaged_text_heap_ends_with_a_clear_message(tmp_path: Path) -> None:
    path = write_sample(tmp_path / "a.h5", "scene")
    damage_text_heap(path)
    found = describe_limited(path, time_limit_s=LIMIT_S)
    assert [each.path for each in found.violations] == ["/"]
    assert "no progress within 2 s" in found.violations[0].message


def test_a_dataset_in_a_damaged_text_heap_is_named_and_the_rest_shown(tmp_path: Path) -> None:
    path = write_sample(tmp_path / "a.h5", "scan")
    with h5py.File(path, "r+") as file:
        told = dict(file["photos/reason"].attrs)
        del file["photos/reason"]
        file["photos/reason"] = [f"{at} " + "x" * 3000 for at in range(4)]  # a heap of its own
        file["photos/reason"].attrs.update(told)
    assert describe(path).violations == ()
    assert damage_text_heap(path) > 1
    found = describe_limited(path, time_limit_s=LIMIT_S)
    assert [each.path for each in found.violations] == ["photos/reason"]
    assert "never comes back" in found.violations[0].message
    assert found.schema == "scan" and found.root is not None
    assert {each.path for each in found.root.children[0].children} > {"photos/name", "photos/bytes"}


def test_other_readings_end_with_an_error_that_names_the_place(tmp_path: Path) -> None:
    path = write_sample(tmp_path / "a b.h5", "scan")
    with pytest.raises(DamagedArtifact, match=r"a b\.h5: (photos/name|/) cannot be read: .*no progress"):
        guarded(f"{HERE}:hang_on_a_file", path, time_limit_s=0.5)
    assert guarded("storage.inspect.preview:preview", path, "photos/name", 1, time_limit_s=60).total == 4


def take_memory(path: Path, *arguments: object, watch: Callable[[str], None], **named: object) -> int:
    watch("photos/name")
    return len(bytearray(200 << 20))


def test_what_takes_too_much_memory_is_named_and_the_machine_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_sample(tmp_path / "a.h5", "scan")
    monkeypatch.setattr("storage.outside.guarded.MEMORY_BYTES", 100 << 20)
    with pytest.raises(DamagedArtifact, match=r"a\.h5: photos/name cannot be read: .*more memory than"):
        guarded(f"{HERE}:take_memory", path, time_limit_s=60)


def test_a_file_that_announces_what_it_does_not_hold_is_described(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chunked dataset of nothing is read as 300 MB of zeros."""
    path = write_sample(tmp_path / "a.h5", "scan")
    with h5py.File(path, "r+") as file:
        told = dict(file["photos/bytes"].attrs)
        del file["photos/bytes"]
        file.create_dataset("photos/bytes", (40_000_000,), "int64", chunks=(10_000_000,), compression="gzip")
        file["photos/bytes"].attrs.update(told)
    monkeypatch.setattr("storage.outside.guarded.MEMORY_BYTES", 50 << 20)
    found = describe_limited(path, full=True, time_limit_s=60)
    assert found.violations
