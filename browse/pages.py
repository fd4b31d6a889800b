"""The two pages: the list of files, and h5web on one of them."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from importlib import resources
from itertools import groupby
from urllib.parse import quote

from storage.files.units import human_bytes

STATIC = {
    "h5web.js": "text/javascript; charset=utf-8",
    "h5web.css": "text/css; charset=utf-8",
    "LICENSES.txt": "text/plain; charset=utf-8",
}
_STYLE = """
:root { color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 1.5rem auto; padding: 0 1rem; overflow-wrap: anywhere; }
li { padding: .15rem 0; } small { opacity: .75; }
"""


def static(name: str) -> bytes | None:
    """One of the files in STATIC, None for any other name."""
    return resources.files("browse").joinpath("static", name).read_bytes() if name in STATIC else None


def listing(title: str, files: Iterable[tuple[str, int]]) -> str:
    """Links to every file, by folder."""
    parts = []
    for folder, members in groupby(files, key=lambda each: each[0].rpartition("/")[0]):
        links = "".join(
            f'<li><a href="view?file={quote(name, safe="")}">{_text(name.rpartition("/")[2])}</a> '
            f"<small>{human_bytes(size)}</small></li>"
            for name, size in members
        )
        parts.append(f"<h2>{_text(folder or 'files')}</h2><ul>{links}</ul>")
    body = "".join(parts) or "<p>There is no HDF5 file here.</p>"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{_text(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">'
        f"<style>{_STYLE}</style></head><body><h1>{_text(title)}</h1>{body}"
        '<p><small>Read-only. The viewer is <a href="static/LICENSES.txt">h5web</a>.</small></p>'
        "</body></html>"
    )


def viewer() -> str:
    """h5web; it asks for the file that the address names."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>h5web</title>'
        '<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">'
        '<link rel="stylesheet" href="static/h5web.css">'
        "<style>html, body, #root { height: 100%; margin: 0; } #root { display: flex; }</style></head>"
        '<body><div id="root"></div><script src="static/h5web.js"></script></body></html>'
    )


def _text(value: str) -> str:
    plain = "".join(each if each.isprintable() else "�" for each in value)
    return escape(plain.encode("utf-8", "backslashreplace").decode())
