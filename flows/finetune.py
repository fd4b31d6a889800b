"""Train anew on the training set of an earlier run, with other options of `network` and `training`."""

from flows.run.alone import stage_flow

finetune = stage_flow("finetune", __doc__)
