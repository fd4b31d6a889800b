"""What is in each kind of file."""
