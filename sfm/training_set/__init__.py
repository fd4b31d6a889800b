"""The training set: its tables, its splits, its other formats."""

from storage.lazy import lazy

__getattr__, __all__ = lazy(__name__, {"sfm.training_set.training_set": "TrainingSet"})
