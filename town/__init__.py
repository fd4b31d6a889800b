"""A rendered town: photographs with known truth, for the demo and for tests."""
