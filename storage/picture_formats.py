"""The formats of pictures that are read as photographs, stated once.

Nothing else is tried on a file: a format outside the list may start a program (PostScript) or
has nothing to do with a camera.
"""

PILLOW_FORMATS = (
    "JPEG",
    "MPO",
    "PNG",
    "TIFF",
    "WEBP",
    "BMP",
    "GIF",
    "PPM",
    "JPEG2000",
    "HEIF",
    "AVIF",
)
"""Pillow's names; the last two are there where Pillow or its plugin pillow-heif reads them."""

MODULES = (
    "storage.coordinates",
    "storage.exif",
    "storage.picture_depth",
    "storage.picture_formats",
    "storage.pictures",
)
"""What decides about the pixels of a photograph: among the modules of every stage that decodes some."""
