"""Commands on a store: `store init|ls|verify|gc|lineage|migrate|environment`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from flows.cli.common import StoreOption, out, put, say, tell, usage
from storage.files.escaping import shown

if TYPE_CHECKING:
    from storage.store.store import Store

store_app = typer.Typer(no_args_is_help=True, help="What is in a store, is it intact, what can go.")

StoreArgument = Annotated[Path, typer.Argument(help="folder of the store", envvar="RETRIEVAL_SFM_STORE")]


@store_app.command()
def init(store: StoreArgument) -> None:
    """Make a store and try what its file system must be able to do."""
    with usage():
        from storage.store.store import Store

        say(f"store ready: {Store.create(store).root}")


@store_app.command()
def ls(
    store: StoreArgument,
    stage: Annotated[str | None, typer.Option(help="only this stage")] = None,
    collection: Annotated[str | None, typer.Option(help="collection whose latest run counts")] = None,
) -> None:
    """List the artifacts, the runs that hold them, and which are stale (built from X, current is Y)."""
    from storage.files.units import human_bytes

    with usage():
        from storage.store import ledger, maintenance

        opened = _open(store)
        listed = maintenance.ls(opened, stage)
        record = ledger.latest(opened, collection)
    stale = {s.ref.path: str(s).split(": ", 1)[1] for s in ledger.stale(opened, record)} if record else {}
    table = Table("stage", "made", "seconds", "size", "runs", "artifact", "")
    for item in listed:
        table.add_row(
            item.ref.stage,
            f"{item.created.astimezone():%Y-%m-%d %H:%M}",
            f"{item.seconds:.1f}",
            human_bytes(item.ref.bytes),
            str(len(item.runs)),
            shown(item.ref.path),
            f"[yellow]stale: {shown(stale[item.ref.path])}[/yellow]" if item.ref.path in stale else "",
        )
    out.print(table)
    say(f"{len(listed)} artifacts, {human_bytes(sum(i.ref.bytes for i in listed))}")


@store_app.command()
def verify(
    store: StoreArgument,
    quick: Annotated[bool, typer.Option("--quick", help="believe files that were not touched")] = False,
) -> None:
    """Read every byte and name what is damaged, missing or nobody's. Exit code 1 if not all is intact."""
    with usage():
        from storage.store import maintenance

        verdicts = maintenance.verify(_open(store), full=not quick)
    bad = [v for v in verdicts if v.status in ("damaged", "missing")]
    held = [v for v in verdicts if v.status == "open elsewhere"]
    for verdict in verdicts:
        if verdict.status != "ok":
            say(f"{verdict.status}: {verdict.path}")
    good = sum(v.status == "ok" for v in verdicts)
    orphans = len(verdicts) - good - len(bad) - len(held)
    say(f"{good} intact, {len(bad)} damaged or missing, {orphans} orphans")
    if held:
        tell(f"{len(held)} not looked at: another program has them open for writing; close them there")
    if bad:
        tell("the next run makes them again")
    if bad or held:
        raise typer.Exit(1)


@store_app.command()
def gc(
    store: StoreArgument,
    delete: Annotated[bool, typer.Option("--delete", help="remove it, instead of a dry run")] = False,
    drop_run: Annotated[list[str] | None, typer.Option(help="take this run out of the ledger first")] = None,
) -> None:
    """What no run in the ledger stands on: listed, or with --delete removed."""
    from storage.files.units import human_bytes

    with usage():
        from storage.store import ledger, maintenance

        opened = _open(store)
        if drop_run and not delete:
            raise ValueError("--drop-run changes the ledger; give --delete with it")
        for run in drop_run or []:
            ledger.delete(opened, run)
        garbage = maintenance.gc(opened, delete=delete)
    for path in [*(ref.path for ref in garbage.artifacts), *garbage.others]:
        say(path)
    for path in garbage.kept_locked:
        say(f"kept, in use: {path}")
    verb = "removed" if garbage.deleted else "would be removed (dry run; --delete removes)"
    count = len(garbage.artifacts) + len(garbage.others)
    say(f"{count} entries, {human_bytes(garbage.bytes)} {verb}")


@store_app.command()
def lineage(
    file: Annotated[Path, typer.Argument(help="a file of the store, or a copy of one")], store: StoreOption
) -> None:
    """What a file was made from, down to the photographs."""
    with usage():
        from storage.store import maintenance

        for line in maintenance.lineage(_open(store), file).lines():
            say(line)


@store_app.command()
def migrate(store: StoreArgument) -> None:
    """Bring a store of an older version to today's format."""
    with usage():
        from storage.store import maintenance

        result = maintenance.migrate(_open(store))
    formats = f"format {result.from_format} -> {result.to_format}"
    say(f"{formats}, {result.indexed} artifacts indexed")
    for path in result.older_layouts:
        say(f"older layout, still read: {path}")


@store_app.command()
def environment(
    store: StoreArgument,
    server: Annotated[
        str | None, typer.Option(help="address of its `up` on another machine: http://NAME:4200")
    ] = None,
) -> None:
    """What `prefect` commands and further workers need for the `up` of this store: eval "$(...)"

    The key is among it: it is for a shell, not for a screen.
    """
    with usage():
        from shlex import quote

        from flows.server.access import settings_for_prefect

        for name, value in settings_for_prefect(_open(store).root, server).items():
            put(f"export {name}={quote(value)}")


def _open(store: Path) -> "Store":
    from storage.store.store import Store

    return Store.open(store)
