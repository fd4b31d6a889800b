"""The whitenings of a run by name."""

from collections.abc import Mapping
from typing import NamedTuple

from flows.options.names import METHODS, NETWORKS
from flows.options.pipeline import DescriptionOptions
from report.tables.evaluation import scale_names
from storage.keys.artifacts import ArtifactRef
from storage.store.ledger import RunRecord


class Learnt(NamedTuple):
    """What a whitening was learnt from, and how. scales: as in `DescriptionOptions.scale_sets`."""

    network: str
    scales: str
    method: str

    def __str__(self) -> str:
        return "/".join(self)


def names(description: DescriptionOptions) -> list[Learnt]:
    """Every whitening that a run with these options has."""
    return [
        Learnt(network, scales, method)
        for network in NETWORKS
        for scales in description.scale_sets()
        for method in METHODS
    ]


def noted(found: Mapping[Learnt, ArtifactRef]) -> dict[str, ArtifactRef]:
    """Whitenings as the run's record has them."""
    return {str(name): ref for name, ref in found.items()}


def whitenings(record: RunRecord) -> dict[Learnt, ArtifactRef]:
    """The whitenings of a run, {} where it has none. Records of earlier versions have an order, no names."""
    refs, known = record.refs_of("whiten"), record.named("whiten")
    if not refs:
        return {}
    mine = names(DescriptionOptions.model_validate(record.options["description"]))
    if known:
        return {name: known[str(name)] for name in mine}
    return dict(zip(mine, refs, strict=True))


def scales_shown(record: RunRecord) -> dict[str, str]:
    """The scales of a run's descriptions -> how tables call them: single, multi."""
    description = DescriptionOptions.model_validate(record.options.get("description", {}))
    return scale_names(list(description.scale_sets()))
