"""How much a flow will have to do where nobody can know yet: photographs by name, pairs by the options."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from flows.options import PipelineOptions
from retrieval import evaluation, extraction, finetuning, network_options, whitening
from retrieval.network_options import NetworkOptions
from sfm import (
    catalogue,
    clusters,
    expansion,
    features,
    mapping,
    matching,
    model_import,
    pairs,
    scene_assembly,
    training_lists,
    training_pairs,
    working,
)
from sfm.catalogue import CatalogueOptions
from sfm.pair_lists import count_listed
from sfm.pairs import PairOptions, strategy_of
from sfm.proposals import budget
from storage import items
from storage.keys import family_key, stage_key
from storage.options import Options
from storage.stages import Stage
from storage.store import Store

PHOTOGRAPHS_PER_CLUSTER = 9
NEW_SHARE = 0.7
"""Pairs that two sources propose and expansion adds, as a share of the neighbours that were asked for."""


@dataclass(frozen=True)
class Row:
    """One stage of one flow: items that are there and to do, under which options; exact or estimated."""

    flow: str
    stage: Stage
    options: Options
    cached: int
    todo: int
    exact: bool = False


@dataclass(frozen=True)
class Estimates:
    """What the flows would do with these photographs (sha256, sorted) and options; no store: everything."""

    store: Store | None
    options: PipelineOptions
    shas: Sequence[str]
    _held: dict[str, frozenset[str]] = field(default_factory=dict)

    def rows(self, flow: str) -> list[Row]:
        """The stages of a flow, in order."""
        found: list[Row] = getattr(self, f"_{flow}")()
        return found

    def _reconstruct(self) -> list[Row]:
        chosen = self.options.reconstruction
        if self.options.selection.list is not None:
            return []
        row, imported = self._maker("reconstruct"), chosen.importing()
        rest = (
            [row(model_import.STAGE, imported, 0, 1)]
            if imported
            else [
                row(pairs.STAGE, chosen.pairs, 0, 1),
                row(matching.STAGE, chosen.matching, *self._pairs()),
                row(expansion.STAGE, chosen.expansion, 0, min(chosen.expansion.rounds, 2)),
                row(clusters.STAGE, chosen.clusters, 0, 1),
                row(mapping.STAGE, chosen.mapping, 0, max(1, len(self.shas) // PHOTOGRAPHS_PER_CLUSTER)),
                row(scene_assembly.STAGE, chosen.scene, 0, 1),
            ]
        )
        return [
            self._photographs("reconstruct", working.STAGE, chosen.working),
            row(catalogue.STAGE, CatalogueOptions(), 0, 1),
            self._network("reconstruct", chosen.network),
            self._photographs("reconstruct", extraction.STAGE, chosen.description),
            self._photographs("reconstruct", features.STAGE, chosen.features),
            *rest,
        ]

    def _select(self) -> list[Row]:
        row, selection = self._maker("select"), self.options.selection
        if selection.list is not None:
            return [row(training_lists.STAGE, selection.of_list(), 0, 1)]
        chosen = selection.of_scene()
        return [
            row(training_pairs.GUARD_STAGE, chosen, 0, 1),
            row(matching.STAGE, self.options.reconstruction.matching, 0, len(self.shas)),
            row(training_pairs.STAGE, chosen, 0, 1),
        ]

    def _finetune(self) -> list[Row]:
        row = self._maker("finetune")
        return [
            self._network("finetune", self.options.network),
            row(finetuning.STAGE, self.options.training, 0, 1),
        ]

    def _whiten(self) -> list[Row]:
        row, sets = self._maker("whiten"), self.options.description.scale_sets()
        described = [
            row(extraction.STAGE, chosen, cached, 2 * len(self.shas) - cached)  # the tuned network is new
            for chosen in sets.values()
            for cached in [len(self._there(extraction.STAGE, chosen) & set(self.shas))]
        ]
        return [*described, row(whitening.STAGE, self.options.whitening.of("lw"), 0, 4 * len(sets))]

    def _evaluate(self) -> list[Row]:
        return [self._maker("evaluate")(evaluation.STAGE, self.options.evaluation, 0, 1)]

    def _maker(self, flow: str) -> Callable[[Stage, Options, int, int], Row]:
        return lambda stage, options, cached, todo: Row(flow, stage, options, cached, todo)

    def _photographs(self, flow: str, stage: Stage, options: Options) -> Row:
        cached = len(self._there(stage, options) & set(self.shas))
        return Row(flow, stage, options, cached, len(self.shas) - cached)

    def _network(self, flow: str, options: NetworkOptions) -> Row:
        stage = network_options.STAGE
        there = self.store is not None and self.store.find(stage.name, stage_key(stage, options, []))
        return Row(flow, stage, options, int(bool(there)), int(not there))

    def _pairs(self) -> tuple[int, int]:
        """(cached, to do): what the photographs without features add to the pairs that are there."""
        chosen, known = self.options.reconstruction, set(self.shas)
        held = self._there(matching.STAGE, chosen.matching)
        cached = sum(set(item.split("-")) <= known for item in held)
        whole = expected_pairs(len(known), chosen.pairs)
        if not cached:
            return 0, whole
        before = len(self._there(features.STAGE, chosen.features) & known)
        return cached, max(0, whole - expected_pairs(before, chosen.pairs))

    def _there(self, stage: Stage, options: Options) -> frozenset[str]:
        """Ids of all items that chunks of these options hold."""
        if self.store is None:
            return frozenset()
        family = family_key(stage, options)
        if family not in self._held:
            chunks = (items.read(self.store.root, s.ref) for s in self.store.index.family(family))
            self._held[family] = frozenset(item for chunk in chunks for item in chunk)
        return self._held[family]


def expected_pairs(photographs: int, options: PairOptions) -> int:
    """Pairs that will be matched: those that the strategy says, or about as many as neighbours are asked for.

    Raises UnusablePairList.
    """
    every = photographs * (photographs - 1) // 2
    match strategy_of(options, photographs):
        case "exhaustive":
            return every
        case "list":
            return min(every, count_listed(options.list_file) if options.list_file else 0)
        case "sequential":
            return min(every, photographs * (options.sequential.overlap + options.sequential.loop_neighbours))
        case strategy:
            near = options.neighbours + options.aggregation.neighbours
            asked = near if strategy == "neighbours" else options.vocabulary.neighbours
            most = budget(photographs, options.max_pair_share)
            return min(most, round(NEW_SHARE * photographs * asked))
