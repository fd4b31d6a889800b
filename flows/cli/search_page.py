"""What a search found as one HTML file that needs no other: thumbnails inside, names escaped."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence
from html import escape
from pathlib import Path

from PIL import Image, ImageDraw

from flows.serving.search import Hit
from retrieval.describe.images import Box, UnreadablePhotograph, load_photograph
from storage.files.escaping import escaped
from storage.files.whole import write_text

THUMBNAIL_PX = 240
_STYLE = """
body{font:15px/1.4 system-ui,sans-serif;margin:2rem;color:#222;background:#f4f4f4}
ol{display:grid;grid-template-columns:repeat(auto-fill,minmax(250px,1fr));gap:1rem;padding:0;list-style:none}
figure{margin:0;padding:.5rem;background:#fff;border:1px solid #ddd;overflow-wrap:anywhere}
.query{width:fit-content}
img{display:block;max-width:100%;margin:auto}
figcaption{white-space:pre-wrap}
.missing{color:#a33}
"""


def write_page(
    out: Path, query: Path, box: Box | None, hits: Sequence[Hit], photos: Path | None, about: str
) -> None:
    """Write the page, whole or not at all. photos: folder that the names are below, None = unknown."""
    items = "\n".join(f"<li>{_figure(number, hit, photos)}</li>" for number, hit in enumerate(hits, 1))
    title = f"Photographs nearest to {escaped(query.name)}"
    write_text(
        out,
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body><h1>{escape(title)}</h1>\n<p>{escape(about)}</p>\n"
        f'<figure class="query">{_picture(query, query.name, box)}'
        f"<figcaption>{escape(_asked(query, box))}</figcaption></figure>\n"
        f"<ol>\n{items}\n</ol></body></html>\n",
    )


def _asked(query: Path, box: Box | None) -> str:
    """What was looked for, in a line."""
    part = "" if box is None else f", the part {','.join(f'{value:g}' for value in box)} px"
    return f"query: {escaped(query.name)}{part}"


def _figure(number: int, hit: Hit, photos: Path | None) -> str:
    picture = '<p class="missing">photographs unknown</p>'
    if photos is not None:
        picture = _picture(photos / hit.name, hit.name, None)
    matched = "" if hit.inliers is None or hit.inliers < 0 else f", {hit.inliers} inliers"
    caption = f"{number}. {escaped(hit.name)}\n{hit.score:.4f}{matched}"
    return f"<figure>{picture}<figcaption>{escape(caption)}</figcaption></figure>"


def _picture(path: Path, name: str, box: Box | None) -> str:
    """An img element with the photograph inside, or why there is none."""
    try:
        photograph = Image.fromarray(load_photograph(path, None if box else THUMBNAIL_PX, draft=True))
    except UnreadablePhotograph:
        shown = escape(escaped(os.fspath(path)))
        return f'<p class="missing">{shown} cannot be read</p>'
    if box is not None:
        width = max(3, max(photograph.size) // 100)
        ImageDraw.Draw(photograph).rectangle(box, outline=(230, 30, 30), width=width)
        photograph.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    buffer = io.BytesIO()
    photograph.save(buffer, format="JPEG", quality=80)
    content = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<img src="data:image/jpeg;base64,{content}" alt="{escape(escaped(name))}">'
