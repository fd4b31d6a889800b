"""Scenes and features for other programs."""
