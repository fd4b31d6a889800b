"""Descriptors of images by a network. Front door of `retrieval.describe.describe`."""

from retrieval.describe.describe import extract

__all__ = ["extract"]
