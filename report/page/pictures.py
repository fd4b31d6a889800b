"""Small pictures of photographs, each in the page once, however often it is shown."""

from __future__ import annotations

import base64
import io
import logging
from collections.abc import Mapping
from pathlib import Path

from report.page.markup import Safe, tag

log = logging.getLogger(__name__)

LONGER_SIDE_PX = 160
QUALITY = 66
BUDGET_BYTES = 6 << 20
"""Of all pictures as they stand in the page; later ones are shown by their name alone."""


class Pictures:
    """Thumbnails by the sha256 of the photograph. files: where copies lie; names: how each is called."""

    def __init__(
        self, files: Mapping[str, Path], names: Mapping[str, str], budget_bytes: int = BUDGET_BYTES
    ) -> None:
        self.files, self.names = files, names
        self.content: list[str] = []
        self.left_out = 0
        self._room = budget_bytes
        self._places: dict[str, int | None] = {}

    def place(self, sha: str) -> int | None:
        """Position of a picture in `content`; None where there is none or no room for it."""
        if sha not in self._places:
            self._places[sha] = self._add(sha)
        return self._places[sha]

    def show(self, sha: str, caption: str = "", kind: str = "", mark: str = "") -> Safe:
        """A figure: the picture or its name, a mark in words, a caption. kind: a class of the style."""
        name, place = self.names.get(sha, sha[:12]), self.place(sha)
        inside = tag("span", name, class_="nothing")
        if place is not None:
            inside = Safe(tag("img", data_p=place, alt=name, title=name).removesuffix("</img>"))
        words = [tag("b", mark)] if mark else []
        words += [tag("span", caption)] if caption else []
        below = [tag("figcaption", *words)] if words else []
        return tag("figure", inside, *below, class_=kind or None)

    def _add(self, sha: str) -> int | None:
        if sha not in self.files:
            return None
        if self._room <= 0:
            self.left_out += 1
            return None
        try:
            written = _thumbnail(self.files[sha])
        except (OSError, ValueError, SyntaxError) as error:
            log.debug("no thumbnail of %s: %s", sha, error)
            return None
        self._room -= len(written)
        self.content.append(written)
        return len(self.content) - 1


def _thumbnail(path: Path) -> str:
    """A WebP of at most LONGER_SIDE_PX, base64."""
    from storage.pictures.decoding import thumbnail

    file = io.BytesIO()
    thumbnail(path, LONGER_SIDE_PX).save(file, format="WEBP", quality=QUALITY, method=2)
    return base64.b64encode(file.getvalue()).decode()
