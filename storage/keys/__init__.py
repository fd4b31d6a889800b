"""What a result is made from, as a key."""
