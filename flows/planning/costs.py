"""What work costs: measured in the store where it has done such work, else on the reference machine."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from retrieval.training.options import DEFAULT_NEGATIVES
from storage.keys.artifacts import Sidecar


@dataclass(frozen=True)
class Cost:
    """Of one item at load 1: seconds on one core (descriptors and training: all of them), bytes on disk."""

    seconds: float
    bytes: float


DEFAULTS: dict[str, Cost] = {
    "working": Cost(0.02, 90_000),
    "catalogue": Cost(0.05, 100_000),
    "network": Cost(4.0, 13_700_000),
    "descriptors": Cost(0.08, 5_100),
    "altered_descriptors": Cost(0.06, 5_100),
    "features": Cost(0.5, 340_000),
    "pairs": Cost(1.0, 350_000),
    "expansion": Cost(0.1, 12_000),
    "matches": Cost(0.04, 220),
    "clusters": Cost(0.1, 60_000),
    "mapping": Cost(2.5, 640_000),
    "scene": Cost(0.5, 3_000_000),
    "imported_scene": Cost(0.5, 3_000_000),
    "guard_pairs": Cost(0.1, 10_000),
    "training_set": Cost(0.2, 100_000),
    "listed_set": Cost(1.0, 100_000),
    "benchmark_pairs": Cost(0.1, 40_000),
    "decontaminated_set": Cost(0.2, 100_000),
    "finetune": Cost(2.0, 13_700_000),
    "whiten": Cost(6.0, 6_400_000),
    "evaluate": Cost(1.0, 130_000),
}
"""Two cores of 2.5 GHz, photographs of 640 px, EfficientNet-Lite0; 600 photographs where that matters."""

UNKNOWN = Cost(1.0, 100_000)
PARALLEL = frozenset({"working", "features", "matches", "mapping"})
"""Stages whose tasks run side by side, one per worker."""

_DESCRIPTION_PX = 480
_TRAINING_PX = 362
_DEFAULT_QUERIES = 2000  # where a training takes all queries, whose number is not known


def load(stage: str, options: Mapping[str, Any]) -> float:
    """How much work one item is under some options (JSON values) beside the default ones."""
    if stage in ("descriptors", "altered_descriptors"):
        area = (options["image_size"] / _DESCRIPTION_PX) ** 2
        return float(area * sum(scale**2 for scale in options["scales"]))
    if stage == "finetune":
        queries = options["queries_per_epoch"] or _DEFAULT_QUERIES
        matched = queries if options.get("through_matches") else 0  # at most
        queries += matched + options.get("own_views", 0)
        passes = options["epochs"] * queries * _share_of_passes(options)
        return float(passes * (options["image_size"] / _TRAINING_PX) ** 2)
    return 1.0


def _share_of_passes(training: Mapping[str, Any]) -> float:
    """Photographs of a tuple that pass the network, beside those of a default one."""
    if training.get("compared_with") == "descriptors":
        return 1 / (2 + DEFAULT_NEGATIVES)
    positives, negatives = training.get("positives_per_tuple", 1), training.get("negatives")
    return float(1 + positives + (negatives or DEFAULT_NEGATIVES)) / (2 + DEFAULT_NEGATIVES)


def measured(sidecars: Iterable[Sidecar]) -> dict[str, Cost]:
    """Cost by stage: seconds per item and load, bytes per item, over all that was made."""
    sums: dict[str, list[float]] = {}
    for sidecar in sidecars:
        stage, items = sidecar.ref.stage, max(1, sidecar.items)
        try:
            work = items * load(stage, sidecar.key_parts["options"])
        except (KeyError, TypeError):  # options of another version
            continue
        total = sums.setdefault(stage, [0.0, 0.0, 0.0, 0.0])
        for position, value in enumerate((sidecar.seconds, work, sidecar.ref.bytes, items)):
            total[position] += value
    return {stage: Cost(s / work, size / items) for stage, (s, work, size, items) in sums.items() if work}


def cost_of(stage: str, known: Mapping[str, Cost]) -> Cost:
    """The measured cost of a stage, else the default one."""
    return known.get(stage) or DEFAULTS.get(stage, UNKNOWN)
