"""Pictures of a run that stand alone: there, small, the same every time, None where there is nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from report.page import stills
from report.page.material import Material
from storage.store.ledger import RunRecord
from storage.store.store import Store

ORANGE, GREEN, RED = (213, 94, 0), (20, 110, 60), (170, 40, 30)
ALL = (stills.models_still, stills.overlaps_still, stills.tuples_still, stills.rankings_still)


@pytest.fixture
def material(store: Store, record: RunRecord) -> Material:
    return Material(store, record)


def share(picture: Any, colour: tuple[int, int, int]) -> float:
    """Of the pixels that have about this colour."""
    pixels = np.asarray(picture.convert("RGB")).astype(int)
    return float((np.abs(pixels - colour).sum(axis=2) < 12).mean())


def test_models_show_their_cameras(material: Material) -> None:
    picture = stills.models_still(material)
    assert picture is not None and share(picture, ORANGE) > 0
    models = len(material.scene["models/cluster"])
    assert picture.size == (min(models, stills.MOST_MODELS) * 360, 640)


def test_rankings_tell_right_from_wrong(material: Material) -> None:
    picture = stills.rankings_still(material)
    assert picture is not None and share(picture, GREEN) + share(picture, RED) > 0


@pytest.mark.parametrize("still", ALL)
def test_the_same_every_time(still: Callable[[Material], Any], store: Store, record: RunRecord) -> None:
    first, second = still(Material(store, record)), still(Material(store, record))
    assert (first is None) == (second is None)
    if first is not None:
        assert stills.encoded(first, 500_000) == stills.encoded(second, 500_000)


@pytest.mark.parametrize("still", ALL)
def test_nothing_of_a_run_that_has_nothing(still: Callable[[Material], Any], material: Material) -> None:
    empty = material.record.model_copy(update={"refs": {}})
    assert still(replace(material, record=empty)) is None


def test_no_sheet_of_photographs_that_are_gone(material: Material) -> None:
    refs = {name: ref for name, ref in material.record.refs.items() if name != "working"}
    without = replace(material, record=material.record.model_copy(update={"refs": refs}))
    assert stills.tuples_still(without) is None and stills.rankings_still(without) is None


@pytest.mark.parametrize("most", [400_000, 60_000, 5_000])
def test_any_picture_is_made_small_enough(most: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1200, 1600, 3), np.uint8)
    found = stills.encoded(Image.fromarray(noise), most)
    assert len(found) <= most and found.startswith(b"\xff\xd8")
