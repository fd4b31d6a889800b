"""What can be wrong with a file: all are ValueErrors whose text names the file, the place and the remedy."""

from __future__ import annotations


class ArtifactError(ValueError):
    """A file that is not what it should be; the message names the file, the place and the remedy."""


class InvalidArrays(ArtifactError):
    """Arrays that break their layout; nothing was written."""


class NotAnArtifact(ArtifactError):
    """Not an HDF5 file, or an HDF5 file that this project did not write."""


class DamagedArtifact(ArtifactError):
    """A file that is truncated or whose bytes changed."""


class WrongSchema(ArtifactError):
    """An artifact of another kind or version than was asked for."""


class MissingItem(ArtifactError):
    """An item or a dataset that the file does not hold."""


class OpenElsewhere(ArtifactError):
    """A file that another program has open for writing: nothing can be said about its content."""
