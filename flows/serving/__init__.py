"""What is done with finished runs: exports, and search."""
