"""A sweep: one end-to-end run per combination of options on one store, so that equal work is done once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from prefect import flow
from prefect.artifacts import create_table_artifact

from flows.end_to_end import end_to_end
from flows.options.sweep import Sweep
from flows.run.background import harmless
from flows.run.sweep_table import Outcome, outcome_of, plain_rows, write_tables
from storage.store.store import Store

logger = logging.getLogger(__name__)


def run_sweep(sweep: Sweep, store: str, out: Path) -> list[Outcome]:
    """Run every combination as a sub-flow of one Prefect flow; the table in `out` grows with each.

    A combination that fails is an outcome with its error, the rest go on. After a kill the same call goes on:
    what is finished comes from the cache.
    """

    @flow(name="sweep", persist_result=False, validate_parameters=False)
    def sweep_flow(name: str, combinations: Sequence[str]) -> None:
        outcomes.extend(run_combinations(sweep, store, out, end_to_end))
        with harmless("sweep-results"):
            words = f"sweep `{name}`, mAP in %"
            create_table_artifact(key="sweep-results", table=plain_rows(sweep, outcomes), description=words)

    outcomes: list[Outcome] = []
    sweep_flow(sweep.name, [each.label for each in sweep.combinations])
    return outcomes


def run_combinations(sweep: Sweep, store: str, out: Path, run: Callable[..., object]) -> list[Outcome]:
    """`run(photos, store, options=, resources=)` for every combination in order; one outcome each."""
    outcomes: list[Outcome] = []
    for each in sweep.combinations:
        logger.info("combination %d of %d: %s", each.number, len(sweep.combinations), each.label)
        try:
            record = run(str(sweep.photos), store, options=each.options, resources=sweep.resources)
            outcomes.append(outcome_of(Store.open(store), record, sweep, each))
        except Exception as error:  # any failure is this combination's; the others do not depend on it
            logger.error("combination %d (%s) failed: %s", each.number, each.label, error)
            outcomes.append(Outcome(each, error=_why(error)))
        write_tables(sweep, outcomes, out)
    return outcomes


def _why(error: Exception) -> str:
    """One line; with the error's type where its text is not made for users."""
    text = " ".join(str(error).split())
    if text and isinstance(error, ValueError | OSError | RuntimeError):
        return text
    return f"{type(error).__name__}: {text}".removesuffix(": ")
