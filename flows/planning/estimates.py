"""How much a flow will have to do where nobody can know yet: photographs by name, pairs by the options."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from flows.options.pipeline import PipelineOptions
from retrieval.describe import altered, harder_queries
from retrieval.describe import options as extraction
from retrieval.evaluation import evaluate
from retrieval.networks import options as network_options
from retrieval.networks.options import NetworkOptions
from retrieval.training import options as training
from retrieval.whitening import whitening
from sfm.features import sift
from sfm.lists import select
from sfm.mapping import clusters
from sfm.mapping import map as mapping
from sfm.matching import match
from sfm.pairing import expansion, propose
from sfm.pairing.strategies import PairOptions, strategy_of
from sfm.photographs import catalogue, working
from sfm.photographs.catalogue import CatalogueOptions
from sfm.scene import assembly, importing
from sfm.selection import stages
from storage.keys.keys import family_key, stage_key
from storage.keys.options import Options
from storage.keys.stages import Stage
from storage.store import chunks as items
from storage.store.store import Store

PHOTOGRAPHS_PER_CLUSTER = 9


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
        """The stages of a flow, in order; none where nothing is known of it."""
        estimate: Callable[[], list[Row]] = getattr(self, f"_{flow}", list)
        return estimate()

    def _reconstruct(self) -> list[Row]:
        chosen = self.options.reconstruction
        if self.options.selection.list is not None:
            return []
        row, imported = partial(Row, "reconstruct"), chosen.importing()
        rest = (
            [row(importing.STAGE, imported, 0, 1)]
            if imported
            else [
                row(propose.STAGE, chosen.pairs, 0, 1),
                row(match.STAGE, chosen.matching, *self._pairs()),
                row(expansion.STAGE, chosen.expansion, 0, min(chosen.expansion.rounds, 2)),
                row(clusters.STAGE, chosen.clusters, 0, 1),
                row(mapping.STAGE, chosen.mapping, 0, max(1, len(self.shas) // PHOTOGRAPHS_PER_CLUSTER)),
                row(assembly.STAGE, chosen.scene, 0, 1),
            ]
        )
        return [
            self._photographs("reconstruct", working.STAGE, chosen.working),
            row(catalogue.STAGE, CatalogueOptions(), 0, 1),
            self._network("reconstruct", chosen.network),
            self._photographs("reconstruct", extraction.STAGE, chosen.description),
            self._photographs("reconstruct", sift.STAGE, chosen.features),
            *rest,
        ]

    def _select(self) -> list[Row]:
        row, selection = partial(Row, "select"), self.options.selection
        if selection.list is not None:
            return [row(select.STAGE, selection.of_list(), 0, 1)]
        chosen = selection.of_scene()
        return [
            row(stages.GUARD_STAGE, chosen, 0, 1),
            row(match.STAGE, self.options.reconstruction.matching, 0, len(self.shas)),
            row(stages.STAGE, chosen, 0, 1),
        ]

    def _finetune(self) -> list[Row]:
        row = partial(Row, "finetune")
        return [
            self._network("finetune", self.options.network),
            row(training.STAGE, self.options.training, 0, 1),
        ]

    def _whiten(self) -> list[Row]:
        row, sets = partial(Row, "whiten"), self.options.description.scale_sets()
        described = [
            row(extraction.STAGE, chosen, cached, 2 * len(self.shas) - cached)  # the tuned network is new
            for chosen in sets.values()
            for cached in [len(self._there(extraction.STAGE, chosen) & set(self.shas))]
        ]
        return [*described, row(whitening.STAGE, self.options.whitening.of("lw"), 0, 4 * len(sets))]

    def _evaluate(self) -> list[Row]:
        row, chosen = partial(Row, "evaluate"), self.options.evaluation
        measured = [row(evaluate.STAGE, chosen, 0, 1)]
        if not chosen.harder or self.options.selection.list is not None:
            return measured
        held_back = self.options.selection.val_fraction + self.options.selection.test_fraction
        asked = round(held_back * len(self.shas)) * 2 * len(harder_queries.CHANGES)
        options = next(iter(self.options.description.scale_sets().values()))
        return [row(altered.STAGE, options, 0, asked), *measured]

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
        held = self._there(match.STAGE, chosen.matching)
        cached = sum(set(item.split("-")) <= known for item in held)
        whole = expected_pairs(len(known), chosen.pairs)
        if not cached:
            return 0, whole
        before = len(self._there(sift.STAGE, chosen.features) & known)
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
    """Pairs that will be matched, about. Raises UnusablePairList."""
    return strategy_of(options, photographs).expected(photographs, options)
