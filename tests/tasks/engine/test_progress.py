"""Progress: bars where someone looks, log lines elsewhere."""

import io
import logging

import pytest
from rich.console import Console

from tasks.engine.progress import LogLines, bars, reporter


def test_log_lines_at_the_start_at_intervals_and_at_the_end(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([0.0, 1.0, 14.0, 16.0, 17.0, 18.0])
    monkeypatch.setattr("tasks.engine.progress.time.monotonic", lambda: next(times))
    progress = LogLines("features", every_s=15.0)
    with caplog.at_level(logging.INFO):
        for done in (1, 2, 3, 4, 5, 5):
            progress(done, 5, "photographs")
    assert [r.getMessage() for r in caplog.records] == [f"features: {n} of 5 photographs" for n in (1, 4, 5)]


def test_without_bars_the_reporter_writes_log_lines(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        reporter("mapping")(2, 2, "clusters")
    assert caplog.messages == ["mapping: 2 of 2 clusters"]


def test_with_bars_it_draws_and_writes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    progress = reporter("matching")
    with caplog.at_level(logging.INFO), bars(console) as shown:
        progress(1, 4, "pairs")
        assert list(shown._tasks) == ["matching"]
        shown._progress.refresh()
        progress(4, 4, "pairs")
        assert shown._tasks == {}
    assert caplog.messages == []
    drawn = console.file.getvalue()  # type: ignore[attr-defined]
    assert "matching (pairs)" in drawn
    assert "1/4" in drawn


def test_log_handlers_write_above_the_bars_and_get_their_console_back() -> None:
    class Handler(logging.Handler):
        console = "before"

    handler = Handler()
    owner = logging.getLogger("test.progress.handlers")
    owner.addHandler(handler)
    console = Console(file=io.StringIO())
    try:
        with bars(console):
            assert handler.console is console
        assert handler.console == "before"
    finally:
        owner.removeHandler(handler)
