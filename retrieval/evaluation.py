"""Evaluation on the geometry benchmark: configurations side by side, with intervals over clusters."""

from __future__ import annotations

from retrieval.benchmarks.geometry import GeometryResult, geometry_map

__all__ = ["GeometryResult", "geometry_map"]
