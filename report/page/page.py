"""The whole page: its parts in the order of the pipeline, its style, its script, its data."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from report.page.costs import costs_section
from report.page.evaluation import evaluation_section
from report.page.lineage import lineage_section
from report.page.markup import Safe, json_script, section, tag, text
from report.page.material import Material
from report.page.models import models_section
from report.page.photographs import cluster_gallery, what_went_in
from report.page.selection import selection_section
from report.page.training import training_section
from storage.files.whole import write_text

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


def _page(material: Material) -> str:
    drawn: dict[str, Any] = {}
    parts = _parts(material, drawn)
    figures = [figure for figure in drawn.values() if figure]
    body = [
        tag("a", "Skip to the content", href="#main", class_="skip"),
        _header(material, [name for name in _ORDER if name in parts]),
        tag("main", *(parts[name] for name in _ORDER if name in parts), id="main"),
        _pictures(material),
        json_script("figures", _to_json(drawn)),
        _library() if figures else "",
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


_ORDER = (
    "photographs", "clusters", "models", "selection", "training", "evaluation", "costs", "lineage", "command",
)  # fmt: skip
_MENU = {
    "photographs": "photographs", "clusters": "clusters", "models": "3D models", "selection": "pairs",
    "training": "training", "evaluation": "evaluation", "costs": "time", "lineage": "lineage",
    "command": "again",
}  # fmt: skip


def _parts(material: Material, drawn: dict[str, Any]) -> dict[str, Safe]:
    """The sections by name; those whose pictures matter most come first, while there is room for pictures."""

    def with_figures(made: tuple[Safe, Any] | None, name: str) -> Safe | None:
        if made is None:
            return None
        drawn[name] = made[1]
        return made[0]

    makers: dict[str, Callable[[], Safe | None]] = {
        "evaluation": lambda: evaluation_section(material),
        "training": lambda: with_figures(training_section(material), "curves"),
        "selection": lambda: selection_section(material),
        "photographs": lambda: what_went_in(material),
        "models": lambda: with_figures(models_section(material), "models"),
        "clusters": lambda: cluster_gallery(material),
        "costs": lambda: costs_section(material),
        "lineage": lambda: lineage_section(material),
        "command": lambda: _command(material),
    }
    made = {name: _tried(name, maker) for name, maker in makers.items()}
    return {name: part for name, part in made.items() if part is not None}


def _tried(name: str, maker: Callable[[], Safe | None]) -> Safe | None:
    try:
        return maker()
    except (ValueError, OSError, KeyError, IndexError) as error:
        log.warning("report: %s cannot be shown: %s", name, error)
        words = f"This part cannot be shown: {type(error).__name__}: {error}"
        return section(name, name, tag("p", words, class_="note"))


def _header(material: Material, parts: list[str]) -> Safe:
    record = material.record
    begin = f"{record.started:%Y-%m-%d %H:%M} UTC"
    links = [tag("a", _MENU[name], href=f"#{name}") for name in parts]
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
