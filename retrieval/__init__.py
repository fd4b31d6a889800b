"""Network, losses, mining, training, whitening, search and benchmarks."""
