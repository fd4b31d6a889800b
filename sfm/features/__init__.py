"""Local features: made here, or brought."""
