"""Networks and descriptors for other programs."""
