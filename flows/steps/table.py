"""What each stage does: the one table."""

from collections.abc import Callable

from flows.steps import evaluate, finetune, reconstruct, select, whiten
from flows.steps.work import Work

STEPS: dict[str, Callable[[Work], None]] = {
    "reconstruct": reconstruct.steps,
    "select": select.steps,
    "finetune": finetune.steps,
    "whiten": whiten.steps,
    "evaluate": evaluate.steps,
}
