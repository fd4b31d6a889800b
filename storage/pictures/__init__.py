"""From the bytes of a photograph to its pixels."""
