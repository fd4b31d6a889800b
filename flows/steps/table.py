"""What each stage does: `steps` of the module of its name."""

from collections.abc import Callable
from importlib import import_module

from flows.options.stages import STAGES
from flows.steps.work import Work

STEPS: dict[str, Callable[[Work], None]] = {
    stage: import_module(f"flows.steps.{stage}").steps for stage in STAGES
}
