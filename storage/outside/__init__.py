"""Text, numbers, names and files from outside."""
