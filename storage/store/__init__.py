"""The store: artifacts, runs, locks, maintenance."""

from storage.lazy import lazy

__getattr__, __all__ = lazy(__name__, {"storage.store.store": "Store"})
