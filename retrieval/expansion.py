"""Query expansion and database augmentation. Front door of `retrieval.nearest.expansion`."""

from retrieval.nearest.expansion import alpha_query_expansion, database_augmentation

__all__ = ["alpha_query_expansion", "database_augmentation"]
