"""The folder of photographs: what is in it, and whether it still is what it was."""
