"""What a failure comes down to: one line that names the cause and the remedy, the traceback in a file."""

import errno
import logging
import os
import resource
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from flows.cli import main
from flows.server.context import LogFile
from flows.terminal import failures
from flows.terminal.failures import machine_fault, note, one_line

FULL = "no space left on "
AGAIN = "then run the same command again; what was finished is kept"


class TorchError(Exception):
    """As libraries raise them: a text."""


def caused(cause: BaseException) -> BaseException:
    """An error of a fan-out, as it arrives at the command."""
    try:
        try:
            raise cause
        except BaseException as inner:
            raise RuntimeError("1 of 3 tasks failed") from inner
    except RuntimeError as error:
        return error


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp/a.h5"),
        OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
        OSError(
            "Can't write data (file write failed: errno = 28, error message = 'No space left on device')"
        ),
        RuntimeError("[enforce fail at inline_container.cc] . PytorchStreamWriter: No space left on device"),
        TorchError("Error while serializing: I/O error: No space left on device (os error 28)"),
        TorchError("(sqlite3.OperationalError) database or disk is full"),
        ExceptionGroup("tasks", [ValueError("x"), OSError(errno.ENOSPC, "full")]),
    ],
)
def test_a_full_disk_is_one_line_whoever_says_it(tmp_path: Path, error: Exception) -> None:
    for each in (error, caused(error)):
        text = one_line(each, tmp_path)
        assert text.startswith(FULL) and text.endswith(AGAIN) and "\n" not in text


def test_a_disk_without_room_explains_what_has_no_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Prefect server whose database has no room answers 500."""
    error = RuntimeError("Server error '500 Internal Server Error' for url 'http://127.0.0.1:1/api'")
    assert machine_fault(error, tmp_path) is None
    monkeypatch.setattr(failures, "_free", lambda path: 4096.0 if path == tmp_path else 1e12)
    assert one_line(error, tmp_path).startswith(FULL)
    assert one_line(ValueError("no option 'x'"), tmp_path) == "no option 'x'"  # the user's, disk full or not


def test_the_place_is_the_mount_of_what_was_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Path, "is_mount", lambda self: self == tmp_path)
    error = OSError(errno.ENOSPC, "full", str(tmp_path / "store" / "scene" / "a.h5"))
    assert one_line(error).startswith(f"{FULL}{str(tmp_path)!r} (")


def test_a_limit_of_the_shell_and_a_read_only_disk() -> None:
    large = one_line(OSError(errno.EFBIG, "File too large", "/s/a.h5"))
    assert large.startswith("'/s/a.h5': the file would be larger than") and "ulimit -f unlimited" in large
    fixed = one_line(caused(OSError(errno.EROFS, "Read-only file system", "/s/a.h5")), "/s")
    assert fixed == "'/s/a.h5' is read-only: choose another folder, or make it writable"
    assert "read-only" in one_line(TorchError("attempt to write a readonly database"), "/s")


def test_what_was_handled_before_is_no_cause() -> None:
    error = RuntimeError("another matter")
    error.__context__, error.__suppress_context__ = OSError(errno.EROFS, "Read-only file system"), True
    assert one_line(error) == "RuntimeError: another matter"


def test_a_written_file_that_meets_the_limit(tmp_path: Path) -> None:
    """Python ignores SIGXFSZ, so that the write fails; HDF5 says it in its own words."""
    h5py, code = pytest.importorskip("h5py"), 0
    pid = os.fork()
    if pid == 0:
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
            try:
                with h5py.File(tmp_path / "a.h5", "w") as file:
                    file["x"] = b"x" * 100_000
            except Exception as error:
                code = 7 if "ulimit -f" in one_line(error) else 8
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


def test_a_long_text_is_its_ends_and_a_name_forges_nothing() -> None:
    error = RuntimeError("the child failed\nTraceback:\n  a\n  b\nValueError: at 'x\x1b[31m.jpg'")
    assert one_line(error) == "RuntimeError: the child failed ... ValueError: at 'x\\x1b[31m.jpg'"


def test_the_traceback_is_in_the_log_and_every_line_of_it_is_indented(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.touch()
    note(caused(OSError("x\n2026-01-01 00:00:00 INFO forged\x1b[2J")), log)
    first, *rest = log.read_text().splitlines()
    assert first.endswith("the command failed") and all(line.startswith("    ") for line in rest)
    assert "Traceback" in rest[0] and "\x1b" not in log.read_text()
    note(OSError("nothing"), tmp_path / "none" / "a.log")


def test_a_log_that_cannot_be_written_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    handler = LogFile(full)
    for number in range(3):
        handler.handle(logging.makeLogRecord({"msg": f"line {number}", "levelno": logging.INFO}))
    handler.close()
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "the log /dev/full cannot be written: [Errno 28] No space left on device"


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`store ls` fails as no one foresaw."""

    def fail(folder: object) -> None:
        raise KeyError(f"{folder}\x1b[31m")

    monkeypatch.setattr("flows.cli.store._open", fail)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delenv(failures.DEBUG, raising=False)


def test_what_nobody_foresaw_is_one_line_and_a_log(broken: None, tmp_path: Path) -> None:
    result = CliRunner().invoke(main.app, ["store", "ls", "here"])
    assert result.exit_code == 1
    error, log = result.output.splitlines()
    assert error.startswith("error: KeyError: ") and "\x1b" not in error
    assert log.startswith(f"log: {tmp_path}/retrieval-sfm-")
    assert "Traceback" in Path(log.removeprefix("log: ")).read_text()


def test_debug_shows_where(broken: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(failures.DEBUG, "")  # put back afterwards
    result = CliRunner().invoke(main.app, ["--debug", "store", "ls", "here"])
    assert result.exit_code == 1 and "Traceback" in result.output and "\x1b" not in result.output
    assert not list(tmp_path.iterdir())


def test_where_no_log_has_room_the_line_is_still_there(broken: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**named: str) -> None:
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    result = CliRunner().invoke(main.app, ["store", "ls", "here"])
    assert result.exit_code == 1
    assert result.output.splitlines()[1].startswith("no log could be written (Permission denied)")


@pytest.mark.parametrize(
    ("error", "code", "output"),
    [
        (KeyboardInterrupt(), 1, "error: interrupted\n"),
        (typer.Exit(3), 3, ""),
        (BrokenPipeError(errno.EPIPE, ""), 1, ""),
    ],
)
def test_ends_that_are_no_fault(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, output: str
) -> None:
    def end(folder: object) -> None:
        raise error

    monkeypatch.setattr("flows.cli.store._open", end)
    result = CliRunner().invoke(main.app, ["store", "ls", "here"])
    assert (result.exit_code, result.output) == (code, output)
