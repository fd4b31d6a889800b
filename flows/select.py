"""Select anew from the scene of an earlier run, with other options of `selection`."""

from flows.run.alone import stage_flow

select = stage_flow("select", __doc__)
