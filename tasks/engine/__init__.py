"""What every task shares: keys, caching, chunks, progress."""
