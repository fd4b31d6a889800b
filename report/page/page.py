"""The whole page: its parts in the order of the pipeline, its style, its script, its data."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from report.page.markup import Safe, json_script, section, tag, text
from report.page.material import Material, Section
from storage.files.whole import write_text
from storage.lazy import every

log = logging.getLogger(__name__)

POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'"
)
"""Nothing is ever fetched; whatever a name contains, the browser runs what is in this page alone."""


@dataclass(frozen=True)
class Page:
    """A page that was written: where, how large, how many pictures it has and how many had no room."""

    path: Path
    bytes: int
    num_pictures: int
    num_left_out: int


def write_page(material: Material, out: Path) -> Page:
    """Write the page of a run, whole or not at all. A part whose artifacts are damaged says so.

    Memory: the arrays of scene.h5 without its observations, at most MOST_POINTS points.
    """
    begin = time.monotonic()
    content = _page(material).encode("utf-8", "backslashreplace").decode()
    write_text(out, content)
    size = out.stat().st_size
    log.info("report of run %s: %d bytes in %.1f s", material.record.id, size, time.monotonic() - begin)
    pictures = material.pictures
    return Page(out, size, len(pictures.content), pictures.left_out)


@cache
def sections() -> list[Section]:
    """The parts of the page in its order: those that the modules of this folder have."""
    found = [each for module in every("report.page.*") for each in getattr(module, "SECTIONS", ())]
    return sorted(found, key=lambda each: each.place)


def _page(material: Material) -> str:
    made = {each.name: _tried(each, material) for each in sorted(sections(), key=lambda each: each.turn)}
    there = [each for each in sections() if made[each.name] is not None]
    body = [
        tag("a", "Skip to the content", href="#main", class_="skip"),
        _header(material, there),
        tag("main", *(made[each.name] for each in there), id="main"),
        _pictures(material),
        json_script("figures", _to_json(material.figures)),
        _library() if any(material.figures.values()) else "",
        Safe(f"<script>{_asset('page.js')}</script>"),
    ]
    title = f"Run {material.record.id} of {material.record.collection}"
    head = [
        Safe('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        Safe(f'<meta http-equiv="Content-Security-Policy" content="{text(POLICY)}">'),
        Safe('<link rel="icon" href="data:,"><meta name="color-scheme" content="light dark">'),
        tag("title", title),
        Safe(f"<style>{_asset('page.css')}</style>"),
    ]
    return f'<!doctype html>\n<html lang="en">{tag("head", *head)}{tag("body", *body)}</html>\n'


def _tried(part: Section, material: Material) -> Safe | None:
    try:
        return part.make(material)
    except (ValueError, OSError, KeyError, IndexError) as error:
        log.warning("report: %s cannot be shown: %s", part.name, error)
        words = f"This part cannot be shown: {type(error).__name__}: {error}"
        return section(part.name, part.name, tag("p", words, class_="note"))


def _header(material: Material, parts: list[Section]) -> Safe:
    record = material.record
    begin = f"{record.started:%Y-%m-%d %H:%M} UTC"
    links = [tag("a", each.menu, href=f"#{each.name}") for each in parts]
    return tag(
        "header",
        tag("h1", record.collection or "a run"),
        tag("p", f"run {record.id}, {record.status}, begun {begin}"),
        tag(
            "nav",
            *links,
            tag("button", "dark / light", type="button", id="theme", aria_label="dark or light colours"),
            aria_label="parts of this page",
        ),
        tag("noscript", "Pictures and figures of this page need JavaScript; nothing is fetched."),
    )


def _command(material: Material) -> Safe | None:
    if not material.command:
        return None
    return section(
        "command",
        "The same again",
        tag("p", "What is in the store already comes from the cache."),
        tag(
            "pre",
            tag("code", Safe("\n".join(text(line) for line in material.command.splitlines()))),
            tabindex="0",
        ),
    )


SECTIONS = (Section("command", "again", place=9, make=_command),)


def _pictures(material: Material) -> Safe:
    pictures = material.pictures
    left_out = f"{pictures.left_out} photographs are shown by name: no room." if pictures.left_out else ""
    return Safe(tag("p", left_out, class_="note") + json_script("pictures", json.dumps(pictures.content)))


def _to_json(drawn: dict[str, Any]) -> str:
    from plotly.io.json import to_json_plotly

    return to_json_plotly(drawn) if drawn else "{}"


def _library() -> Safe:
    """plotly.js as text, run when the first figure comes into view."""
    from plotly.offline import get_plotlyjs

    source = get_plotlyjs().replace("</script", "<\\/script")
    return Safe(f'<script type="text/plain" id="plotly">{source}</script>')


def _asset(name: str) -> str:
    return resources.files("report.page").joinpath(name).read_text(encoding="utf-8")
