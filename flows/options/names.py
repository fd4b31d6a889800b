"""The names that a run's networks and whitenings have in results, options and tables."""

from retrieval.whitening import methods

NETWORKS = {"off-the-shelf": "network", "fine-tuned": "finetune"}
"""Name in the result table -> name of the run's artifact."""
METHODS = tuple(methods.METHODS)
