"""Shared points, overlap, change of scale, nearest cameras. Front door of `sfm.scene.geometry`."""

from sfm.scene.geometry import nearest_centers, overlap, scale_change, shared_points

__all__ = ["nearest_centers", "overlap", "scale_change", "shared_points"]
