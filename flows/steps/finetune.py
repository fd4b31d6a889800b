"""The training set to a fine-tuned network."""

from flows.steps.work import Work
from tasks.describing import make_network
from tasks.learning import checked_by, finetune_network


def steps(work: Work) -> None:
    """The network off the shelf and fine-tuned, noted in the run."""
    network = work.task(make_network)(options=work.options.network)
    training, matching = work.options.training, work.options.reconstruction.matching
    chosen = work.one("training_set")
    verified = training.verify_negatives and work.options.selection.list is None  # a list's are not matched
    features = work.many("features") if verified else []
    tuned = work.task(finetune_network)(
        options=training,
        training_set=chosen,
        network=network,
        photos=work.photos,
        features=checked_by(work.store, features, chosen, matching),
        matching=matching,
        resources=work.resources.training(),
        slot=work.resources.gpu_slot,
    )
    work.keep(network=network, finetune=tuned)
