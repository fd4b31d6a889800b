"""PCA and learned whitening."""

from storage.lazy import lazy

__getattr__, __all__ = lazy(
    __name__, {"retrieval.whitening.whitening": "Whitening learn_pca_whitening learn_whitening"}
)
