"""Measure an earlier run's networks and whitenings anew, with other options of `evaluation`."""

from flows.run.alone import stage_flow

evaluate = stage_flow("evaluate", __doc__)
