"""Which artifact was made from which, as a graph of the run's stages."""

from __future__ import annotations

from collections import Counter
from functools import cache

from report.page.markup import Safe, details, join, section, table, tag, text
from report.page.material import Material, Section

_WIDTH, _HEIGHT, _STEP_X, _STEP_Y = 172, 40, 208, 56


def lineage_section(material: Material) -> Safe | None:
    """The graph, and the same as a table."""
    edges = stage_edges(material)
    names = [name for name in material.record.refs if material.record.refs_of(name)]
    if not names:
        return None
    rows = [
        (name, len(material.record.refs_of(name)), ", ".join(a for a, b in edges if b == name) or "–")
        for name in names
    ]
    return section(
        "lineage",
        "Lineage",
        tag("div", _graph(material, names, edges), class_="wide", tabindex="0"),
        details("the same as a table", table(("stage", "artifacts", "made from"), rows)),
    )


def stage_edges(material: Material) -> list[tuple[str, str]]:
    """(source, made from it) by the run's names for them, each pair once, in the order of the run."""
    name_of = {ref.path: name for name in material.record.refs for ref in material.record.refs_of(name)}
    for name in reversed(list(material.record.refs)):  # an artifact with two names: the first one counts
        name_of |= {ref.path: name for ref in material.record.refs_of(name)}
    found: dict[tuple[str, str], None] = {}
    for name in material.record.refs:
        for _, sidecar in material.sidecars(name):
            for source in sidecar.upstream if sidecar else ():
                other = name_of.get(source.path)
                if other is not None and other != name:
                    found[other, name] = None
    return list(found)


def _graph(material: Material, names: list[str], edges: list[tuple[str, str]]) -> Safe:
    """An SVG: a column per step, sources to the left."""
    depth = _depths(names, edges)
    used: Counter[int] = Counter()
    place = {}
    for name in names:
        place[name] = (depth[name] * _STEP_X + 4, used[depth[name]] * _STEP_Y + 4)
        used[depth[name]] += 1
    width = (max(depth.values()) + 1) * _STEP_X
    height = max(used.values()) * _STEP_Y + 4
    lines = [_edge(place[a], place[b]) for a, b in edges if a in place and b in place]
    boxes = [_box(name, len(material.record.refs_of(name)), *place[name]) for name in names]
    size = f"min-width:{width * 2 // 3}px;max-width:{width}px"
    opening = (
        f'<svg viewBox="0 0 {width} {height}" style="{size}" role="img" '
        'aria-label="which artifact was made from which">'
    )
    return Safe(f"{opening}{join(lines)}{join(boxes)}</svg>")


def _depths(names: list[str], edges: list[tuple[str, str]]) -> dict[str, int]:
    """Longest way from a stage without sources; the order of the run breaks circles."""
    order = {name: place for place, name in enumerate(names)}
    sources: dict[str, list[str]] = {name: [] for name in names}
    for a, b in edges:
        if a in order and b in order and order[a] < order[b]:
            sources[b].append(a)

    @cache
    def depth(name: str) -> int:
        return 1 + max((depth(each) for each in sources[name]), default=-1)

    return {name: depth(name) for name in names}


def _edge(source: tuple[int, int], target: tuple[int, int]) -> Safe:
    x, y = source[0] + _WIDTH, source[1] + _HEIGHT // 2
    end_x, end_y = target[0], target[1] + _HEIGHT // 2
    middle = (x + end_x) // 2
    return Safe(f'<path class="edge" d="M{x},{y} C{middle},{y} {middle},{end_y} {end_x},{end_y}"/>')


def _box(name: str, count: int, x: int, y: int) -> Safe:
    label = f"{name} ({count})" if count > 1 else name
    return Safe(
        f'<g><rect class="node" x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="6"/>'
        f'<text x="{x + _WIDTH // 2}" y="{y + _HEIGHT // 2 + 4}">{text(label)}</text></g>'
    )


SECTIONS = (Section("lineage", "lineage", place=8, make=lineage_section),)
