"""The official files of each benchmark."""
