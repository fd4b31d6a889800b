"""Pickles are data: what they hold comes out, what they ask for does not happen."""

from __future__ import annotations

import datetime
import os
import pickle
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage.outside import guarded
from storage.outside.pickles import BadPickle, RefusedPickle, loads, read_pickle
from tests.official import needs, official

BOMB = b"\x80\x02]r\x00\x00\x00\x0c."
VALUES: dict[str, Any] = {
    "plain": [
        1,
        -5,
        2**70,
        2.5,
        None,
        True,
        False,
        "ü\u2028\ud800",
        "x" * 300,
        b"\x00\xff",
        (),
        (1,),
        (1, (2, [3])),
    ],
    "keys": {"a": 1, 2: "b", None: {}},
    "numbers": [np.int64(-4), np.float32(2.5), np.bool_(True), np.uint8(7)],
    "rows": np.arange(12).reshape(3, 4),
    "columns": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    "text": np.array(["abc", "ü"]),
    "octets": np.array([b"abc", b"d"]),
    "other order": np.arange(4, dtype=">i4"),
    "nothing": np.zeros((0, 3), np.float32),
    "one": np.array(3.0),
    "flags": np.array([True, False]),
}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", VALUES)
def test_what_was_pickled_comes_out(name: str, protocol: int) -> None:
    value = VALUES[name]
    content = pickle.dumps(value, protocol)
    found, end = loads(content)
    assert end == len(content)
    if isinstance(value, np.ndarray):
        np.testing.assert_array_equal(found, value)
        assert found.dtype == value.dtype.newbyteorder("=") and found.shape == value.shape
        assert (found.flags.writeable and found.flags.owndata) or found.base is not None
    elif name == "numbers":
        assert found == [-4, 2.5, True, 7] and [type(each) for each in found] == [int, float, bool, int]
    else:
        assert found == value


def test_texts_of_python_2_have_the_encoding_of_who_reads() -> None:
    content = b"\x80\x02U\x02\xc3\xbc."
    assert loads(content, "utf-8")[0] == "ü"
    assert loads(content, "latin1")[0] == "Ã¼"
    with pytest.raises(BadPickle, match="damaged"):
        loads(b"\x80\x02U\x01\xff.", "utf-8")


def test_arrays_of_python_2_are_read_whatever_the_encoding() -> None:
    kind = b"cnumpy\ndtype\nU\x02i2K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    state = b"(K\x01K\x02\x85" + kind + b"\x89U\x04\xff\xfe\x01\x00tb."
    content = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R" + state
    np.testing.assert_array_equal(loads(content, "utf-8")[0], [-257, 1])


class _Evil:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.file),)


@pytest.mark.parametrize("protocol", range(6))
def test_nothing_is_looked_up_called_or_built(tmp_path: Path, protocol: int) -> None:
    for value in (
        _Evil(tmp_path / "ran"),
        datetime.date(2020, 1, 1),
        {1, 2},
        frozenset({1}),
        Path("x"),
        os.mkdir,
    ):
        with pytest.raises(RefusedPickle, match="only lists, dicts, text, numbers and arrays"):
            loads(pickle.dumps([value], protocol))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "value",
    [
        np.array([object()]), np.array([[1], "a"], object), np.zeros(2, [("x", "i4")]), np.zeros(2, complex),
        np.zeros(2, "M8[s]"), np.zeros(2, "V8"), np.complex128(1), np.datetime64("2020-01-01"),
    ],
)  # fmt: skip
def test_arrays_of_objects_records_and_dates_are_refused(value: Any) -> None:
    for protocol in range(2, 6):
        with pytest.raises(BadPickle):
            loads(pickle.dumps(value, protocol))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (BOMB, "more than it can hold"),
        (b"\x80\x04\x8e" + (2**62).to_bytes(8, "little") + b"a.", "ends too early"),
        (b"\x80\x04\x8d" + (2**64 - 1).to_bytes(8, "little") + b"a.", "maximum size"),
        (b"\x80\x02\x8b\xff\xff\xff\x7f\x01.", "ends too early"),
        (b"\x80\x02\x8b\x20\x00\x00\x00" + b"\x01" * 32 + b".", "an integer of 249 bits"),
        (b"I" + b"9" * 5000 + b"\n.", "digits"),
        (b"]" * 200_000 + b"a" * 199_999 + b".", "deep"),
        (b"(" + b"t" * 5 + b".", "damaged"),
        (b"(" * 100_000 + b"t" * 100_000 + b".", "deep"),
        (b"(]q\x00h\x00a.", "in themselves"),
        (b"}]Ns.", "as its key"),
        (b"", "ends too early"),
        (b"\x80\x04N", "ends too early"),
        (b"h\x05.", "damaged"),
        (b"a.", "damaged"),
        (b"cos\nsystem\n.", "it holds os.system"),
        (b"Pabc\n.", "outside of itself"),
        (b"(cos\nsystem\no.", "builds objects"),
        (b"}" + b"(" * 100_000 + b"t" * 100_000 + b"Ns.", "a tuple as its key"),
        (b"\x80\x02U\x01aQ.", "outside of itself"),
    ],
)
def test_damaged_and_hostile_pickles_are_refused(content: bytes, message: str) -> None:
    with pytest.raises(BadPickle, match=message):
        loads(content)


def _array(
    shape: bytes = b"K\x02\x85", octets: bytes = b"C\x02ab", kind: bytes = b"X\x02\x00\x00\x00u1"
) -> bytes:
    begin = b"\x80\x04cnumpy\ndtype\n" + kind + b"\x85R0" + b"cnumpy.core.multiarray\n_reconstruct\n)R"
    return begin + b"(K\x01" + shape + b"cnumpy\ndtype\n" + kind + b"\x85R\x89" + octets + b"tb."


def test_the_state_of_an_array_is_checked_and_never_set() -> None:
    np.testing.assert_array_equal(loads(_array())[0], [97, 98])
    for changed in (
        _array(shape=b"K\x03\x85"), _array(shape=b"J\xff\xff\xff\xff\x85"), _array(shape=b"N"),
        _array(shape=b"\x8a\x08" + (2**61).to_bytes(8, "little") + b"\x85"), _array(octets=b"K\x05"),
        _array(octets=b"]"), _array(kind=b"X\x02\x00\x00\x00V1"), _array(kind=b"X\x01\x00\x00\x00O"),
        _array(kind=b"X\x02\x00\x00\x00S0"), _array()[:-1] + b"K\x01b.", _array()[:-1] + b"(Ktb.",
    ):  # fmt: skip
        with pytest.raises(BadPickle):
            loads(changed)


def test_values_shared_many_times_are_not_copied_many_times() -> None:
    body = b"C" + bytes([200]) + b"a" * 200 + b"\x94"
    made = b"cnumpy.core.multiarray\n_reconstruct\n)R"
    one = made + b"(K\x01K\xc8\x85cnumpy\ndtype\nX\x02\x00\x00\x00u1\x85R\x89h\x00tb"
    assert len(one) < 100
    with pytest.raises(BadPickle, match="larger than the file"):
        loads(b"\x80\x04" + body + b"0](" + one * 400 + b"e.")


_MEASURED = """
import sys
from pathlib import Path
from storage.outside.pickles import BadPickle, read_pickle
try:
    read_pickle(Path(sys.argv[1]))
except BadPickle as error:
    assert sys.argv[1] in str(error)
status = Path("/proc/self/status").read_text()  # getrusage would count the memory of what started it
print(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
"""


def test_nine_bytes_take_no_gigabytes(tmp_path: Path) -> None:
    (tmp_path / "bomb.pkl").write_bytes(BOMB)
    command = [sys.executable, "-c", _MEASURED, str(tmp_path / "bomb.pkl")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 300_000  # KiB


def test_every_cut_and_every_flipped_bit_is_read_or_refused() -> None:
    content = pickle.dumps({"a": [1, "b", np.arange(3)], "n": np.float32(2)}, 4)
    for at in range(len(content)):
        for changed in (
            content[:at],
            content[:at] + bytes([content[at] ^ (1 << at % 8)]) + content[at + 1 :],
        ):
            with suppress(BadPickle):
                loads(changed)


CASES = official("cases")


@needs(CASES)
def test_the_cases(tmp_path: Path) -> None:
    with pytest.raises(BadPickle, match=r"bomb\.pkl: it remembers"):
        guarded.read_pickle(CASES / "pickle_memo" / "bomb.pkl")
    with pytest.raises(BadPickle, match=r"gnd_roxford5k\.pkl: .*arrays of 'V8'"):
        guarded.read_pickle(CASES / "gnd_pickle" / "gnd_roxford5k.pkl", "latin1")
    for name in ("nparr", "npint"):
        assert set(read_pickle(CASES / "numpy_pickle" / f"{name}.pkl")) == {"train", "val"}
