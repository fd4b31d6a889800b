"""Photographs to descriptors: decoding, batches, scales."""
