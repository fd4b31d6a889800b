"""Photographs to cameras, 3D points, positives and negatives."""
