"""Make the scene of a collection again, with other options of `reconstruction`."""

from flows.run.alone import stage_flow

reconstruct = stage_flow("reconstruct", __doc__)
