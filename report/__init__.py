"""One page per run, worth showing to a colleague: a single HTML file that needs no server and no network."""

from storage.lazy import lazy

__getattr__, __all__ = lazy(__name__, {"report.page.page": "Page write_page"})
