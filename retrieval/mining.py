"""Hard negatives. Front door of `retrieval.training.mining`."""

from retrieval.training.mining import hard_negatives

__all__ = ["hard_negatives"]
