"""The training set to a fine-tuned network."""

from typing import Annotated

from prefect import flow

from flows.forms import BuildUpstream, Changes, ForceStage, FromRun, ResourcesField, StoreField
from flows.options import FinetuneSections
from flows.work import Work, run_stage
from storage.runs import RunRecord
from tasks.describing import make_network
from tasks.learning import checks_input, finetune_network


@flow(name="finetune", persist_result=False)
def finetune(
    store: StoreField,
    from_run: FromRun = "latest",
    options: Annotated[FinetuneSections | None, Changes("of this stage; empty: as in that run")] = None,
    resources: ResourcesField = None,
    force: ForceStage = False,
    build_upstream: BuildUpstream = False,
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
        slot=work.resources.gpu_slot,
    )
    work.keep(network=network, finetune=tuned)
