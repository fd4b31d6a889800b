"""The losses. Front door of `retrieval.training.losses`."""

from retrieval.training.losses import ContrastiveLoss, TripletLoss

__all__ = ["ContrastiveLoss", "TripletLoss"]
