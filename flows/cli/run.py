"""Commands that run flows: `run`, `demo`, `stage`."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.common import (
    DIR,
    FILE,
    ConfigOption,
    PhotosArgument,
    SetOption,
    StoreOption,
    VerifyOption,
    check_photographs,
    err,
    out,
    require_server,
    run_flow,
    usage,
)
from flows.options.stages import STAGES

if TYPE_CHECKING:
    from storage.store.ledger import RunRecord

if TYPE_CHECKING:
    StageName = str
else:
    StageName = StrEnum("StageName", {name: name for name in STAGES})

ForceOption = Annotated[
    list[StageName] | None, typer.Option("--force", help="compute this flow's results again, cached or not")
]
OlderOption = Annotated[
    list[str] | None,
    typer.Option("--accept-older-code", metavar="STAGE", help="use this stage's result of older code"),
]


def run(
    photos: PhotosArgument,
    store: StoreOption,
    config: ConfigOption = None,
    set_: SetOption = None,
    until: Annotated[StageName | None, typer.Option(help="stop after this flow")] = None,
    force: ForceOption = None,
    accept_older_code: OlderOption = None,
    verify: VerifyOption = False,
    from_colmap: Annotated[
        Path | None, DIR(help="COLMAP models of PHOTOS to start from, with database.db if any")
    ] = None,
    from_list: Annotated[
        Path | None,
        FILE(
            help="list of PHOTOS to train on in place of 3D models: csv of positions or identities, "
            "cirtorch's pkl, another store's training_set.h5"
        ),
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="print what would be done and do nothing")] = False,
) -> None:
    """Photographs in, fine-tuned and measured network out. What is done already is not done again."""
    with usage():
        from flows.options.loading import check_list, load

        options, resources = load(
            config, [*(set_ or []), *_models(from_colmap), *_list(from_list, from_colmap)]
        )
        check_photographs(photos)
        check_list(options)
        root = store.absolute() if plan else _open_store(store, photos)
        if accept_older_code:
            from flows.run.superseded import check_names

            check_names(accept_older_code)
    request: dict[str, Any] = {
        "photos": str(photos.absolute()),
        "store": str(root),
        "options": options,
        "resources": resources,
        "until": until and str(until),
        "force": [str(name) for name in force or []],
    }
    if plan:
        with usage():
            from flows.cli.plans import render
            from flows.planning.plan import make_plan

            out.print(render(make_plan(**request)))
        return
    request["config"] = None  # it is in the options
    if accept_older_code:
        request["accept_older_code"] = accept_older_code
    _run_and_show(root, "flows.end_to_end:end_to_end", verify, **request)


def demo(
    store: Annotated[Path, typer.Option(help="folder of the store")] = Path("demo-store"),
    photos: Annotated[Path, typer.Option(help="folder that the town is rendered into")] = Path("demo-photos"),
    set_: SetOption = None,
) -> None:
    """Render a small town, then run everything on it: offline, a few minutes, no photographs needed."""
    with usage():
        from flows.options.loading import load
        from town.demo import CONFIG, render

        options, resources = load(CONFIG, set_ or [])
        require_server()
        with _progress() as progress:
            render(photos, progress)
        root = _open_store(store, photos)
    _run_and_show(
        root,
        "flows.end_to_end:end_to_end",
        False,
        photos=str(photos.absolute()),
        store=str(root),
        options=options,
        resources=resources,
        config=None,
    )


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, else a line at the beginning and the end."""
    from tasks.engine.progress import bars, reporter

    with bars(err) if err.is_terminal else nullcontext():
        report = reporter("rendering the town")
        yield lambda done, total: report(done, total, "photographs")


def stage(
    name: Annotated[StageName, typer.Argument(help="the flow to run alone")],
    store: StoreOption,
    from_run: Annotated[str, typer.Option(help="run whose other options and artifacts it takes")] = "latest",
    config: ConfigOption = None,
    set_: SetOption = None,
    force: Annotated[bool, typer.Option("--force", help="compute it again, cached or not")] = False,
    build_upstream: Annotated[
        bool, typer.Option("--build-upstream", help="make missing upstream artifacts instead of refusing")
    ] = False,
    verify: VerifyOption = False,
) -> None:
    """Run one flow alone with options of its own; everything before it is that of an earlier run."""
    with usage():
        from flows.options.loading import check_list, load_stage
        from storage.store.store import Store

        options, resources = load_stage(name, config, set_ or [], store=store, from_run=from_run)
        if name == "select":
            check_list(options)
        root = Store.open(store).root
    request = {"from_run": from_run, "options": options, "resources": resources}
    request |= {"force": force, "build_upstream": build_upstream}
    _run_and_show(root, f"flows.{name}:{name}", verify, store=str(root), **request)


def _open_store(store: Path, photos: Path) -> Path:
    """The store's absolute path; it is made if it is not there. Raises ValueError."""
    from storage.store.store import Store

    if store.resolve() == photos.resolve():
        raise ValueError(f"{str(store)!r} is the folder of the photographs; give --store another one")
    check_photographs(photos)
    return Store.create(store).root


def _models(folder: Path | None) -> list[str]:
    """`--from-colmap` as an option of the run. Raises ValueError for what is no folder."""
    if folder is None:
        return []
    if not folder.is_dir():
        raise ValueError(f"{str(folder)!r} is no folder; give the folder of your COLMAP models (sparse/)")
    return [f"reconstruction.colmap={json.dumps(str(folder.absolute()))}"]


def _list(file: Path | None, models: Path | None) -> list[str]:
    """`--from-list` as an option of the run. Raises ValueError for what is no file."""
    if file is None:
        return []
    if models is not None:
        raise ValueError("--from-list and --from-colmap both say what to train on; give one of them")
    if not file.is_file():
        raise ValueError(f"{str(file)!r} is no file; give a list of your photographs (.csv, .pkl or .h5)")
    return [f"selection.list={json.dumps(str(file.absolute()))}"]


def _run_and_show(root: Path, flow: str, verify: bool, **request: Any) -> None:
    from flows.cli.results import show

    def load() -> Callable[..., "RunRecord"]:
        found: Callable[..., RunRecord] = resolve_name(flow)
        if not (root / "network").is_dir():  # of a new store the first thing that takes long needs torch
            import_module("tasks.engine.torch_process").start_torch_process()
        import_module("flows.run.pages").import_what_draws()
        return found

    record, log = run_flow(root, load, request, verify=verify)
    show(record, root, log)
