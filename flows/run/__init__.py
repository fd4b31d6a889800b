"""A run on a store: its work, its record, and what is shown of it."""
