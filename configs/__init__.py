"""Preset configurations."""
