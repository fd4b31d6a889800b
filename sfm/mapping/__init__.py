"""Matches to clusters, clusters to 3D models."""
