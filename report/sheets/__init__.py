"""Sheets of photographs: training tuples, benchmarks."""
