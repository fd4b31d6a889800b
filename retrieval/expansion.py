"""Query expansion, database augmentation, re-ranking. Front door of `retrieval.nearest.expansion`."""

from retrieval.nearest.expansion import alpha_query_expansion, database_augmentation, rerank_by_neighbours

__all__ = ["alpha_query_expansion", "database_augmentation", "rerank_by_neighbours"]
