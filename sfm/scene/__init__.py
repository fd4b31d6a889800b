"""All 3D models of a collection as one file, and models that somebody brings."""

from storage.lazy import lazy

__getattr__, __all__ = lazy(__name__, {"sfm.scene.scene": "Scene"})
