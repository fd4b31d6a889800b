"""Which pairs of photographs are matched."""
