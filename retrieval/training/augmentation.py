"""Random changes of training photographs: scale, crop, light and colour. The paper has none."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.transforms.v2 import functional

from retrieval.training.options import TrainingOptions

Change = Callable[[NDArray[np.uint8], int, int], NDArray[np.uint8]]
"""Of a photograph [H, W, 3], the position of its tuple, and its place in the tuple."""
SMALLEST_SIDE = 32
"""px below which no photograph is scaled or cropped."""


def changes(options: TrainingOptions, epoch: int, first: int = 0) -> Change | None:
    """How the photographs of an epoch are changed; None where the options change nothing.

    first: position in the epoch of the first tuple. Draws come from (seed, epoch, position, place) alone: a
    resumed training, or one of several processes, draws the same.
    """
    if not options.augments:
        return None

    def change(photograph: NDArray[np.uint8], position: int, place: int) -> NDArray[np.uint8]:
        generator = np.random.default_rng([options.seed, epoch, first + position, place])
        return augment(photograph, options, generator)

    return change


def drawn_views(
    tuples: NDArray[np.int64], options: TrainingOptions, epoch: int, first: int = 0
) -> NDArray[np.int64]:
    """Which view of each photograph of tuples [T, L] is trained on, 0: itself, as far as it has not to find
    itself. Draws as in `changes`."""
    assert options.augment_views is not None
    numbers = np.empty(tuples.shape, dtype=np.int64)
    for position, images in enumerate(tuples):
        generator = np.random.default_rng([options.seed, epoch, first + position])
        fewest = 1 if images[0] == images[1] else 0
        numbers[position] = generator.integers(fewest, options.augment_views + 1, len(images))
    return numbers


def view(
    photograph: NDArray[np.uint8], options: TrainingOptions, image: int, number: int
) -> NDArray[np.uint8]:
    """View `number` of a photograph, always the same; 0: itself."""
    if number == 0:
        return photograph
    return augment(photograph, options, np.random.default_rng([options.seed, image, number]))


def augment(
    photograph: NDArray[np.uint8], options: TrainingOptions, generator: np.random.Generator
) -> NDArray[np.uint8]:
    """One photograph as it might have been taken a little differently: [H, W, 3] uint8 -> [h, w, 3] uint8.

    Scaled by a factor in [augment_scale, 1]; up to augment_crop of each side cut away, at a random place;
    brightness, contrast and saturation multiplied by factors in 1 -+ augment_colour. The draws are made
    whatever is switched on, so that one option does not change what another draws.
    """
    draws = generator.random(8)
    image = torch.from_numpy(np.array(photograph)).permute(2, 0, 1)
    if options.augment_scale < 1:
        factor = options.augment_scale + (1 - options.augment_scale) * draws[0]
        size = [_side(side, side * factor) for side in image.shape[1:]]
        image = functional.resize(image, size, antialias=True)
    if options.augment_crop > 0:
        height, width = image.shape[1:]
        kept = [_side(side, side * (1 - options.augment_crop * draw))
                for side, draw in zip((height, width), draws[1:3], strict=True)]  # fmt: skip
        top, left = ((height - kept[0]) * draws[3], (width - kept[1]) * draws[4])
        image = functional.crop(image, round(top), round(left), kept[0], kept[1])
    if options.augment_colour > 0:
        bright, contrast, saturation = (1 + options.augment_colour * (2 * draws[5:8] - 1)).tolist()
        image = functional.adjust_brightness(image, bright)
        image = functional.adjust_contrast(image, contrast)
        image = functional.adjust_saturation(image, saturation)
    return np.ascontiguousarray(image.permute(1, 2, 0).numpy())


def _side(side: int, wanted: float) -> int:
    """Pixels of a side that is to become `wanted`: never enlarged, never below SMALLEST_SIDE."""
    return min(side, max(SMALLEST_SIDE, round(wanted)))
