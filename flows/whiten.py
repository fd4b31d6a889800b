"""Descriptors of both networks at every set of scales, and the whitenings learnt from them."""

from collections.abc import Iterator
from typing import Annotated, NamedTuple

from prefect import flow

from flows.forms import BuildUpstream, Changes, ForceStage, FromRun, ResourcesField, StoreField
from flows.names import METHODS, NETWORKS
from flows.options import WhitenSections
from flows.reconstruct import describe_all
from flows.whitenings import Learnt, noted
from flows.work import Work, run_stage
from storage.artifacts import ArtifactRef
from storage.runs import RunRecord
from tasks.chunks import items_input
from tasks.learning import learn_whitening
from tasks.photographs import accepted
from tasks.selecting import selected


class Described(NamedTuple):
    """The photographs as one network describes them at one set of scales; digest: of these descriptors."""

    network: str
    scales: str
    descriptors: list[ArtifactRef]
    digest: str


@flow(name="whiten", persist_result=False)
def whiten(
    store: StoreField,
    from_run: FromRun = "latest",
    options: Annotated[WhitenSections | None, Changes("of this stage; empty: as in that run")] = None,
    resources: ResourcesField = None,
    force: ForceStage = False,
    build_upstream: BuildUpstream = False,
) -> RunRecord:
    """Whiten anew what earlier networks describe, with other options of `description` and `whitening`."""
    return run_stage(
        "whiten", store, from_run, options, resources, force=force, build_upstream=build_upstream
    )


def steps(work: Work) -> None:
    """PCAw and Lw of every network and set of scales, noted in the run."""
    found = list(described(work))
    learnt = {
        Learnt(each.network, each.scales, method): work.task(learn_whitening)(
            store=work.root,
            options=work.options.whitening.of(method),
            inputs=[each.digest],
            training_set=work.one("training_set"),
            descriptors=each.descriptors,
        )
        for each in found
        for method in METHODS
    }
    work.keep(descriptors=[ref for each in found for ref in each.descriptors], whiten=noted(learnt))


def photographs(work: Work) -> list[str]:
    """sha256 of what is described: all accepted photographs, or those of the list that is selected from."""
    if work.options.selection.list is not None:
        return selected(work.store, work.one("training_set"))
    return accepted(work.store, work.one("catalogue"))


def described(work: Work) -> Iterator[Described]:
    """Both networks, off the shelf first, each single scale first."""
    shas = photographs(work)
    for name, artifact in NETWORKS.items():
        for scales, options in work.options.description.scale_sets().items():
            refs = describe_all(work, work.one(artifact), shas, options)
            yield Described(name, scales, refs, items_input(work.store, refs, shas))
