"""The training set to a fine-tuned network."""

from flows.steps.reconstruct import describe_all
from flows.steps.work import Work
from retrieval.describe.options import ExtractionOptions
from storage.keys.artifacts import ArtifactRef
from tasks.describing import make_network
from tasks.engine.chunks import Items
from tasks.learning import checked_by, finetune_network
from tasks.selecting import selected


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
        descriptors=described(work, network),
        resources=work.resources.training(),
        slot=work.resources.gpu_slot,
    )
    work.keep(network=network, finetune=tuned)


def described(work: Work, network: ArtifactRef) -> list[Items]:
    """Descriptors of the training set that a projection, Lw or a teacher begins with, by size."""
    training, shas = work.options.training, selected(work.store, work.one("training_set"))
    return [
        Items(
            describe_all(
                work,
                network,
                shas,
                ExtractionOptions(image_size=size, precision=training.precision, draft=training.draft),
            ),
            shas,
        )
        for size in training.described_at
    ]
