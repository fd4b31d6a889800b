"""The stages of a run: the one table of their order and of what each makes.

Their options are in `flows.options`, what they do in `flows.steps`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal


@dataclass(frozen=True)
class StageOfRun:
    """A stage. makes: the run's references that it notes.

    needed: those that later stages cannot do without; opened: those that a person opens.
    """

    name: str
    makes: tuple[str, ...]
    needed: tuple[str, ...] = ()
    opened: tuple[str, ...] = ()


TABLE = (
    StageOfRun(
        "reconstruct",
        makes=(
            "scan", "working", "catalogue", "proposal_network", "proposal_descriptors", "features",
            "proposed_pairs", "matches", "clusters", "mapping", "scene",
        ),
        needed=("scene",),
        opened=("scene",),
    ),
    StageOfRun(
        "select",
        makes=(
            "guard_pairs", "guard_matches", "benchmark_scan", "benchmark_working", "benchmark_catalogue",
            "benchmark_descriptors", "benchmark_features", "benchmark_pairs", "benchmark_matches",
            "whole_training_set", "training_set",
        ),
        needed=("training_set",),
        opened=("training_set",),
    ),
    StageOfRun("finetune", makes=("network", "finetune"), needed=("finetune",)),
    StageOfRun("whiten", makes=("descriptors", "whiten"), needed=("whiten",)),
    StageOfRun("evaluate", makes=("altered_descriptors", "evaluation"), opened=("evaluation",)),
)  # fmt: skip
"""In the order in which `end_to_end` runs them."""

BY_NAME = {each.name: each for each in TABLE}
STAGES = tuple(BY_NAME)
OPENED = frozenset(name for each in TABLE for name in each.opened)
INTERMEDIATE = frozenset(name for each in TABLE for name in each.makes) - OPENED
"""Artifacts of a run that few people open; `store ls` lists them. Some are shown in another way."""

if TYPE_CHECKING:
    StageName = str
else:
    StageName = Literal[STAGES]


def up_to(last: str | None) -> tuple[str, ...]:
    """The stages up to one of them; None: all."""
    return STAGES[: STAGES.index(last) + 1] if last else STAGES


def before(stage: str) -> tuple[str, ...]:
    """The stages before one of them."""
    return STAGES[: STAGES.index(stage)]
