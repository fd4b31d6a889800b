"""The losses. Front door of `retrieval.learning.losses`."""

from retrieval.learning.losses import ContrastiveLoss, TripletLoss

__all__ = ["ContrastiveLoss", "TripletLoss"]
