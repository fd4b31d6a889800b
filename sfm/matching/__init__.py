"""Matching and geometric verification."""
