"""A collection that is searched: its index, queries, geometry of the best."""

from storage.lazy import lazy

__getattr__, __all__ = lazy(__name__, {"retrieval.search.index": "SearchIndex search"})
