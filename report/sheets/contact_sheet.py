"""Photographs in rows on one sheet: framed tiles with a caption, written as a PNG."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Colour = tuple[int, int, int]
TILE_PX, GAP_PX, HEADER_PX = 150, 6, 22
BLACK, GREEN, GREY, RED = (40, 40, 40), (20, 110, 60), (130, 130, 130), (170, 40, 30)
_CAPTION_PX, _FRAME_PX, _TEXT_PX = 14, 2, 11
_PAPER, _BACK = (255, 255, 255), (225, 225, 225)


class ContactSheet:
    """A sheet of `lines` rows of `columns` tiles; `image` is the Pillow image that it is painted on."""

    def __init__(self, lines: int, columns: int, least_width: int = 0) -> None:
        """least_width: of the sheet, in px, for its header."""
        from PIL import Image, ImageDraw

        height = lines * (TILE_PX + _CAPTION_PX + GAP_PX) + HEADER_PX + GAP_PX
        width = max(columns * (TILE_PX + GAP_PX) + GAP_PX, least_width)
        self.image: Any = Image.new("RGB", (width, height), _PAPER)
        self._pen = ImageDraw.Draw(self.image)

    def head(self, text: str, colour: Colour, column: int = 0, size: int = 13) -> None:
        """Text above a column. size: of the font, in px."""
        from PIL import ImageFont

        corner = (GAP_PX + column * (TILE_PX + GAP_PX), 5)
        self._pen.text(corner, text, fill=colour, font=ImageFont.load_default(size))

    def tile(self, line: int, column: int, pixels: NDArray[np.uint8], colour: Colour, caption: str) -> None:
        """A photograph [H, W, 3], made to fit, in a frame of its colour with its caption below."""
        from PIL import Image, ImageFont

        left = GAP_PX + column * (TILE_PX + GAP_PX)
        top = HEADER_PX + line * (TILE_PX + _CAPTION_PX + GAP_PX)
        frame = (left, top, left + TILE_PX - 1, top + TILE_PX - 1)
        picture = Image.fromarray(pixels)
        picture.thumbnail((TILE_PX, TILE_PX))
        self._pen.rectangle(frame, fill=_BACK)
        middle = (left + (TILE_PX - picture.width) // 2, top + (TILE_PX - picture.height) // 2)
        self.image.paste(picture, middle)
        self._pen.rectangle(frame, outline=colour, width=_FRAME_PX)
        font = ImageFont.load_default(_TEXT_PX)
        self._pen.text((left, top + TILE_PX + 1), caption, fill=colour, font=font)

    def save(self, out: Path) -> None:
        """Write it as a PNG, whole or not at all."""
        partial = out.with_name(f".{out.name}.partial")
        try:
            self.image.save(partial, format="PNG")
            os.replace(partial, out)
        finally:
            partial.unlink(missing_ok=True)
