"""Scenes as the tests of their making have them."""

from tests.sfm.conftest import many_places

__all__ = ["many_places"]
