"""Command `sweep`: the same photographs under many combinations of options, one table at the end."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli_common import SetOption, StoreOption, VerifyOption, one_line, out, run_flow, say, tell, usage

if TYPE_CHECKING:
    from collections.abc import Callable

    from flows.sweep_table import Outcome


def sweep(
    config: Annotated[
        Path, typer.Argument(help="YAML file: base, grids, columns; see configs/sweep_paper.yaml")
    ],
    store: StoreOption,
    photos: Annotated[
        Path | None, typer.Option(help="folder of the photographs (else `photos` of the file)", metavar="DIR")
    ] = None,
    set_: SetOption = None,
    output: Annotated[
        Path | None, typer.Option("--out", help="folder for the tables (else STORE/sweeps)", metavar="DIR")
    ] = None,
    verify: VerifyOption = False,
    plan: Annotated[bool, typer.Option("--plan", help="print the combinations and what is cached")] = False,
) -> None:
    """Every combination of a grid of options on one store; what two of them share is done once."""
    with usage():
        from flows.sweep_config import read_sweep

        found = read_sweep(config, photos, set_ or [])
        if plan:
            from flows.sweep_plan import plan_sweep

            out.print(plan_sweep(found, str(store.absolute())))
            return
        from storage.store import Store

        root = Store.create(store).root
    folder = output.absolute() if output is not None else root / "sweeps"

    def load() -> "Callable[..., list[Outcome]]":
        from flows.sweep import run_sweep

        return run_sweep

    request = {"sweep": found, "store": str(root), "out": folder}
    outcomes, log = run_flow(root, load, request, verify=verify)
    from flows.sweep_table import render

    for table in render(found, outcomes):
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
