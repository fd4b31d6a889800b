"""Training sets from lists that somebody brings."""
