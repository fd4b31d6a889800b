"""A scene to training pairs."""

from storage.lazy import lazy

__getattr__, __all__ = lazy(
    __name__,
    {
        "sfm.selection.choosing": "SelectionOptions assign_splits m1_pool m2 m3 select",
        "sfm.training_set.training_set": "TrainingSet",
    },
)
