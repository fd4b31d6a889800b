"""Calls beside a flow."""

import threading
from asyncio import CancelledError
from contextvars import ContextVar
from functools import partial

import pytest

from flows.run.background import aside, harmless

WHERE: ContextVar[str] = ContextVar("WHERE", default="nowhere")


def test_in_order_in_the_context_of_the_caller_and_waited_for() -> None:
    seen: list[tuple[int, str, bool]] = []
    go = threading.Event()
    caller = threading.get_ident()

    def note(number: int) -> None:
        assert go.wait(10)
        seen.append((number, WHERE.get(), threading.get_ident() == caller))

    with aside() as later:
        for number, where in enumerate(["here", "there"]):
            token = WHERE.set(where)
            later(note, number)
            WHERE.reset(token)
        assert not seen
        go.set()
    assert seen == [(0, "here", False), (1, "there", False)]


def test_an_error_is_logged_with_its_cause_and_what_follows_is_called(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen: list[int] = []

    def divide() -> None:
        seen.append(1 // 0)

    with caplog.at_level("DEBUG", "flows.run.background"), aside() as later:
        later(seen.append, 1)
        later(divide)
        later(partial(seen.append), 2)
    assert seen == [1, 2]
    assert "not shown: divide: ZeroDivisionError: " in caplog.text and "(test_background.py:" in caplog.text
    assert "Traceback" in caplog.text


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, CancelledError, GeneratorExit])
def test_an_interruption_is_never_taken_for_an_error_of_drawing(error: type[BaseException]) -> None:
    def drawing() -> None:
        raise error("now")

    with pytest.raises(error, match="now"), harmless("a picture"):
        drawing()
    with pytest.raises(error, match="now"), aside() as later:
        later(drawing)


@pytest.mark.parametrize(("error", "called"), [(KeyError, [1, 2]), (KeyboardInterrupt, [1])])
def test_an_error_inside_goes_before_and_only_an_interruption_drops_what_waits(
    error: type[BaseException], called: list[int]
) -> None:
    seen: list[int] = []
    go, running = threading.Event(), threading.Event()

    def first() -> None:
        running.set()
        assert go.wait(10)
        seen.append(1)

    def broken() -> None:
        with aside() as later:
            later(first)
            later(seen.append, 2)
            assert running.wait(10)
            threading.Timer(0.2, go.set).start()
            raise error("inside")

    with pytest.raises(error, match="inside"):
        broken()
    assert seen == called
