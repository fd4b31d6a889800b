"""Sizes and times as people read them."""

import pytest

from storage.files.units import duration, human_bytes


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 Bytes"), (1023, "1023 Bytes"), (1536, "1.5 KiB"), (2**40, "1.0 TiB")]
)
def test_sizes(count: int, text: str) -> None:
    assert human_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 seconds"),
        (59.4, "59 seconds"),
        (90, "1 minute and 30 seconds"),
        (8300, "2 hours and 18 minutes"),
        (200000, "2 days and 8 hours"),
    ],
)
def test_times(seconds: float, text: str) -> None:
    assert duration(seconds) == text
