"""Descriptors of both networks at every set of scales, and the whitenings learnt from them."""

from collections.abc import Iterator

from flows.options.names import METHODS, NETWORKS
from flows.steps.reconstruct import describe_all
from flows.steps.whitenings import Learnt, noted
from flows.steps.work import Work
from tasks.learning import DescribedBy, learn_whitening
from tasks.photographs import accepted
from tasks.selecting import selected


def steps(work: Work) -> None:
    """PCAw and Lw of every network and set of scales, noted in the run."""
    found = list(described(work))
    learnt = {
        Learnt(each.network, each.scales, method): work.task(learn_whitening)(
            options=work.options.whitening.of(method),
            training_set=work.one("training_set"),
            descriptors=each,
        )
        for each in found
        for method in METHODS
    }
    work.keep(descriptors=[ref for each in found for ref in each.refs], whiten=noted(learnt))


def photographs(work: Work) -> list[str]:
    """sha256 of what is described: all accepted photographs, or those of the list that is selected from."""
    if work.options.selection.list is not None:
        return selected(work.store, work.one("training_set"))
    return accepted(work.store, work.one("catalogue"))


def described(work: Work) -> Iterator[DescribedBy]:
    """Both networks, off the shelf first, each single scale first."""
    shas = photographs(work)
    for name, artifact in NETWORKS.items():
        for scales, options in work.options.description.scale_sets().items():
            refs = describe_all(work, work.one(artifact), shas, options)
            yield DescribedBy(refs, shas, network=name, scales=scales)
