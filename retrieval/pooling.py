"""The poolings. Front door of `retrieval.networks.pooling`."""

from retrieval.networks.pooling import MAC, RMAC, GeM, Regional, SPoC, gem, l2_normalize, mac, rmac, spoc

__all__ = ["MAC", "RMAC", "GeM", "Regional", "SPoC", "gem", "l2_normalize", "mac", "rmac", "spoc"]
