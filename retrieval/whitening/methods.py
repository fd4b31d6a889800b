"""How descriptors can be whitened, by name. Light: see `retrieval.whitening.whitening.whiten`."""

METHODS = {"pcaw": "PCAw", "lw": "Lw"}
"""As stored -> as shown, in the order in which a run learns them."""
