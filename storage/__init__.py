"""Artifacts, HDF5 layouts, locks, provenance and inspection."""
