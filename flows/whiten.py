"""Whiten anew what earlier networks describe, with other options of `description` and `whitening`."""

from flows.run.alone import stage_flow

whiten = stage_flow("whiten", __doc__)
