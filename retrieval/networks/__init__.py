"""Networks: their parts, their options, their files."""

from storage.lazy import lazy

__getattr__, __all__ = lazy(
    __name__, {"retrieval.networks.network": "RetrievalNetwork build_network load_network save_network"}
)
