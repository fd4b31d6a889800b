"""One page per run, worth showing to a colleague: a single HTML file that needs no server and no network."""

from report.page import Page, write_page

__all__ = ["Page", "write_page"]
