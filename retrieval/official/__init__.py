"""Official benchmarks: which there are, how images are described and results scored."""
