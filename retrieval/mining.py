"""Hard negatives. Front door of `retrieval.learning.mining`."""

from retrieval.learning.mining import hard_negatives

__all__ = ["hard_negatives"]
