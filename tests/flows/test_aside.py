"""Calls beside a flow."""

import threading
from contextvars import ContextVar

import pytest

from flows.aside import aside

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


def test_the_first_error_is_raised_at_the_end_and_nothing_more_is_called() -> None:
    seen: list[int] = []

    def three() -> None:
        with aside() as later:
            later(seen.append, 1)
            later(lambda: 1 / 0)
            later(seen.append, 2)

    with pytest.raises(ZeroDivisionError):
        three()
    assert seen == [1]


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
