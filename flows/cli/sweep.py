"""Command `sweep`: the same photographs under many combinations of options, one table at the end."""

from functools import partial
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.common import (
    DIR,
    SetOption,
    StoreOption,
    VerifyOption,
    one_line,
    out,
    run_flow,
    say,
    tell,
    usage,
)

if TYPE_CHECKING:
    from flows.run.sweep_table import Outcome


def sweep(
    config: Annotated[
        Path, typer.Argument(help="YAML file: base, grids, columns; see configs/sweep_paper.yaml")
    ],
    store: StoreOption,
    photos: Annotated[Path | None, DIR(help="folder of the photographs (else `photos` of the file)")] = None,
    set_: SetOption = None,
    output: Annotated[Path | None, DIR("--out", help="folder for the tables (else STORE/sweeps)")] = None,
    verify: VerifyOption = False,
    plan: Annotated[bool, typer.Option("--plan", help="print the combinations and what is cached")] = False,
) -> None:
    """Every combination of a grid of options on one store; what two of them share is done once."""
    with usage():
        from flows.options.sweep import read_sweep

        found = read_sweep(config, photos, set_ or [])
        if plan:
            from flows.cli.plans import render_sweep
            from flows.planning.sweep_plan import plan_sweep

            out.print(render_sweep(found, *plan_sweep(found, str(store.absolute()))))
            return
        from storage.store.store import Store

        root = Store.create(store).root
    folder = output.absolute() if output is not None else root / "sweeps"
    request = {"sweep": found, "store": str(root), "out": folder}
    outcomes, log = run_flow(root, partial(resolve_name, "flows.sweep:run_sweep"), request, verify=verify)
    from flows.cli.plans import render_results

    for table in render_results(found, outcomes):
        out.print(table)
        out.print()
    for suffix in ("csv", "md"):
        say(str(folder / f"{found.name}.{suffix}"))
    _end(outcomes, log)


def _end(outcomes: "list[Outcome]", log: Path) -> None:
    """Exit code 1 where a combination failed: a line for each, then where the log is."""
    failed = [each for each in outcomes if each.error]
    for each in failed:
        text = f"combination {each.combination.number} ({each.combination.label}): {each.error}"
        tell(one_line(ValueError(text)), red="error:")
    if failed:
        tell(f"{len(failed)} of {len(outcomes)} combinations failed; the same command tries them again")
        tell(f"log: {log}")
        raise typer.Exit(1)
