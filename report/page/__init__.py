"""The page of a run, part by part."""
