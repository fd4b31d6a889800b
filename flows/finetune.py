"""The training set to a fine-tuned network."""

from prefect import flow

from flows.options import FinetuneSections, PipelineResources
from flows.work import Work, run_stage
from storage.runs import RunRecord
from tasks.describing import make_network
from tasks.learning import checks_input, finetune_network


@flow(name="finetune", persist_result=False)
def finetune(
    store: str,
    from_run: str = "latest",
    options: FinetuneSections | None = None,
    resources: PipelineResources | None = None,
    force: bool = False,
    build_upstream: bool = False,
) -> RunRecord:
    """Train anew on the training set of an earlier run, with other options of `network` and `training`."""
    return run_stage(
        "finetune", store, from_run, options, resources, force=force, build_upstream=build_upstream
    )


def steps(work: Work) -> None:
    """The network off the shelf and fine-tuned, noted in the run."""
    network = work.task(make_network)(store=work.root, options=work.options.network)
    training, matching = work.options.training, work.options.reconstruction.matching
    chosen = work.one("training_set")
    verified = training.verify_negatives and work.options.selection.list is None  # a list's are not matched
    features = work.many("features") if verified else []
    tuned = work.task(finetune_network)(
        store=work.root,
        options=training,
        inputs=checks_input(work.store, features, chosen, matching),
        training_set=chosen,
        network=network,
        photos=work.photos,
        features=features,
        matching=matching,
        resources=work.resources.training(),
    )
    work.keep(network=network, finetune=tuned)
