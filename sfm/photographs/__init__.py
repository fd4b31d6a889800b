"""From files to working copies and the catalogue."""
