"""The command line: exit codes, what it says, what it hands to the flows, which are stand-ins here."""

import gc
import json
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from flows.cli import common, main
from flows.cli import run as cli_run
from flows.options.overrides import apply_overrides
from storage.keys.artifacts import ArtifactRef
from storage.keys.options import Options, Resources
from storage.keys.stages import Stage
from storage.store import ledger
from storage.store.store import Store

ROOT = Path(__file__).resolve().parents[3]
Asked = list[dict[str, Any]]
NUMBER = Stage(name="number", suffix=".txt")


class Training(Options):
    epochs: int = 3


class Pipeline(Options):
    training: Training = Training()


class Machine(Resources):
    workers: int = 1


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0")  # as a JPEG begins
    return tmp_path / "photos"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return Store.create(tmp_path / "store", min_free_bytes=0).root


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables are not folded to the width of the test's terminal."""
    monkeypatch.setenv("COLUMNS", "250")
    for console in (common.out, common.err):
        monkeypatch.setattr(console, "_width", 250)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """What the flows were called with; the flows make one artifact and a record."""
    calls: list[dict[str, Any]] = []

    def flow(**request: Any) -> ledger.RunRecord:
        calls.append(request)
        if request["options"].training.epochs == 13:
            raise RuntimeError("the mapper ended\nwith code 13")
        if request["options"].training.epochs == 14:
            raise KeyboardInterrupt
        store = Store.open(request["store"])
        record = ledger.start(store, "photos").with_refs({"number": made(store, "1")}).finished("completed")
        ledger.save(store, record)
        return record

    def load(config: Path | None, sets: list[str]) -> tuple[Pipeline, Machine]:
        return apply_overrides(Pipeline(), sets), Machine()

    def load_stage(name: str, config: Path | None, sets: list[str], **kw: Any) -> tuple[Pipeline, Machine]:
        return load(config, sets)

    def check_names(names: Sequence[str]) -> None:
        if "nowhere" in names:
            raise ValueError("--accept-older-code nowhere: no such flow or stage")

    def session(store: Path) -> Any:
        class Context:
            log = store / "prefect" / "logs" / "a.log"

            def __enter__(self) -> "Context":
                self.log.parent.mkdir(parents=True, exist_ok=True)
                self.log.touch()
                return self

            def __exit__(self, *error: object) -> None:
                return None

            def run(self, function: Any, **request: Any) -> Any:
                return function(**request)

        return Context()

    import_module("flows.run.pages")  # with the real options
    nothing = {"check_list": lambda options: None}
    stand_in(monkeypatch, "flows.options.loading", load=load, load_stage=load_stage, **nothing)
    stand_in(monkeypatch, "flows.end_to_end", end_to_end=flow)
    stand_in(monkeypatch, "flows.whiten", whiten=flow)
    stand_in(monkeypatch, "flows.planning.plan", make_plan=lambda **request: request["photos"])
    stand_in(monkeypatch, "flows.cli.plans", render=lambda photos: f"plan of {photos}")
    stand_in(monkeypatch, "flows.run.superseded", check_names=check_names)
    stand_in(monkeypatch, "flows.run.pages", import_what_draws=lambda: None)
    monkeypatch.setattr("flows.server.context.session", session)
    monkeypatch.setattr("tasks.engine.torch_process.start_torch_process", lambda: None)
    return calls


def stand_in(monkeypatch: pytest.MonkeyPatch, name: str, **members: Any) -> None:
    module = ModuleType(name)
    vars(module).update(members)
    monkeypatch.setitem(sys.modules, name, module)


def call(*arguments: object) -> Any:
    return CliRunner().invoke(main.app, [str(argument) for argument in arguments])


def test_a_run_hands_over_what_was_asked(asked: Asked, photos: Path, tmp_path: Path) -> None:
    store = tmp_path / "new"
    result = call("run", photos, "--store", store, "--set", "training.epochs=5", "--until", "select")
    assert result.exit_code == 0, result.output
    (request,) = asked
    assert request["photos"] == str(photos)
    assert request["store"] == str(store)
    assert request["options"] == Pipeline(training=Training(epochs=5))
    assert (request["until"], request["force"]) == ("select", [])
    assert "accept_older_code" not in request


def test_a_run_prints_its_files_and_its_record(asked: Asked, photos: Path, store: Path) -> None:
    result = call("run", photos, "--store", store)
    (record,) = ledger.records(Store.open(store))
    assert record.refs_of("number")[0].path in result.output
    assert f"run {record.id}: completed" in result.output
    shown = dict(line.rsplit(maxsplit=1) for line in result.output.splitlines() if f" {store}" in line)
    assert shown == {
        "number": str(store / record.refs_of("number")[0].path),
        "record": f"{store}/runs/{record.id}.json",
        "log": f"{store}/prefect/logs/a.log",
    }


def test_colmap_models_are_an_option_of_the_run(photos: Path, tmp_path: Path) -> None:
    from flows.options.loading import load

    folder = tmp_path / 'models "1" = ü'
    folder.mkdir()
    options, _ = load(None, cli_run._models(folder))
    assert options.reconstruction.colmap == folder
    result = call("run", photos, "--store", tmp_path / "new", "--from-colmap", tmp_path / "absent")
    assert result.exit_code == 2 and "absent' is no folder; give the folder of your COLMAP" in result.output
    assert not (tmp_path / "new").exists()


def test_a_list_is_an_option_of_the_run(photos: Path, tmp_path: Path) -> None:
    from flows.options.loading import load

    file = tmp_path / 'list "1" = ü.csv'
    file.write_text("name,identity\na.jpg,1\n")
    options, _ = load(None, cli_run._list(file, None))
    assert options.selection.list == file
    new = ("run", photos, "--store", tmp_path / "new", "--from-list")
    for wrong, why in {
        tmp_path / "absent.csv": "absent.csv' is no file; give a list",
        tmp_path: "is no file; give a list of your photographs (.csv, .pkl or .h5)",
    }.items():
        result = call(*new, wrong)
        assert result.exit_code == 2 and why in result.output
    file.write_text("name,who\na.jpg,1\n")
    for arguments in ((*new, file), (*new[:-1], "--set", f"selection.list={file}")):
        result = call(*arguments)
        assert result.exit_code == 2 and "'name,who' are of neither positions nor identities" in result.output
    result = call(*new, file, "--from-colmap", photos)
    assert result.exit_code == 2 and "give one of them" in result.output
    text = f"selection.decontamination.benchmark={photos}"
    result = call(*new, file, "--set", text)
    assert result.exit_code == 2 and "selection from a list has none; set selection.dec" in result.output
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("new", [True, False])
def test_in_a_new_store_torch_is_started_ahead(
    asked: Asked, photos: Path, store: Path, monkeypatch: pytest.MonkeyPatch, new: bool
) -> None:
    started: list[str] = []
    monkeypatch.setattr("tasks.engine.torch_process.start_torch_process", lambda: started.append("torch"))
    if not new:
        (store / "network").mkdir()
    assert call("run", photos, "--store", store).exit_code == 0
    assert started == ["torch"] * new


def test_force_and_older_code_are_lists_of_stages(asked: Asked, photos: Path, store: Path) -> None:
    stages = ["--force", "select", "--force", "whiten", "--accept-older-code", "scene"]
    call("run", photos, "--store", store, *stages)
    assert asked[0]["force"] == ["select", "whiten"]
    assert asked[0]["accept_older_code"] == ["scene"]


def test_verify_reads_every_byte(
    asked: Asked, photos: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    monkeypatch.setenv("RETRIEVAL_SFM_VERIFY", "")
    call("run", photos, "--store", store, "--verify")
    assert os.environ["RETRIEVAL_SFM_VERIFY"] == "full"


def test_a_plan_does_nothing(asked: Asked, photos: Path, tmp_path: Path) -> None:
    result = call("run", photos, "--store", tmp_path / "none", "--plan")
    assert (result.exit_code, asked) == (0, [])
    assert f"plan of {photos}" in result.output
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "training.epoch=5"], "no option 'training.epoch'; did you mean 'training.epochs'?"),
        (
            ["--set", "training.epochs=many"],
            "training.epochs=many: training.epochs: Input should be",
        ),
        (["--until", "nowhere"], "nowhere"),
        (["--accept-older-code", "nowhere"], "no such flow or stage"),
        (["--force", "scene"], "scene"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_wrong_usage_is_2(
    asked: Asked, photos: Path, store: Path, arguments: list[str], message: str
) -> None:
    result = call("run", photos, "--store", store, *arguments)
    assert (result.exit_code, asked) == (2, [])
    assert message in result.output


def test_no_photographs_is_2_and_makes_no_store(asked: Asked, tmp_path: Path) -> None:
    result = call("run", tmp_path / "absent", "--store", tmp_path / "store")
    assert result.exit_code == 2
    assert "absent' is no folder; give the folder of your photographs" in result.output
    (tmp_path / "texts").mkdir()
    for number in range(12):
        (tmp_path / "texts" / f"{number}.txt").write_text("no photograph")
    for more in ((), ("--plan",)):
        result = call("run", tmp_path / "texts", "--store", tmp_path / "store", *more)
        assert result.exit_code == 2 and "0 photographs in" in result.output
        assert "12 .txt; give the folder of the photographs" in " ".join(result.output.split())
    assert not (tmp_path / "store").exists() and asked == []


def test_a_store_in_the_place_of_the_photographs_is_2(asked: Asked, photos: Path) -> None:
    result = call("run", photos, "--store", photos)
    assert result.exit_code == 2 and "is the folder of the photographs" in result.output
    assert [path.name for path in photos.iterdir()] == ["a.jpg"]


@pytest.mark.parametrize(
    ("epochs", "message"),
    [
        (13, "error: RuntimeError: the mapper ended with code 13\n"),
        (14, "interrupted; the same command goes on"),
    ],
)
def test_a_failed_run_is_1_one_line_and_the_log(
    asked: Asked, photos: Path, store: Path, epochs: int, message: str
) -> None:
    result = call("run", photos, "--store", store, "--set", f"training.epochs={epochs}")
    assert result.exit_code == 1
    assert message in result.output
    log = store / "prefect" / "logs" / "a.log"
    assert f"log: {log}" in result.output
    assert "Traceback" not in result.output
    assert ("Traceback" in log.read_text()) == (epochs == 13)


def test_a_stage_runs_alone_from_a_run(asked: Asked, store: Path) -> None:
    result = call(
        "stage", "whiten", "--store", store, "--from-run", "R1", "--force", "--set", "training.epochs=4"
    )
    assert result.exit_code == 0, result.output
    (request,) = asked
    assert (request["from_run"], request["force"], request["build_upstream"]) == ("R1", True, False)
    assert request["options"].training.epochs == 4


def test_a_stage_needs_a_store(asked: Asked, tmp_path: Path) -> None:
    result = call("stage", "whiten", "--store", tmp_path / "absent")
    assert result.exit_code == 2
    assert "is not a store; make one with" in result.output


def made(store: Store, text: str, stage: Stage = NUMBER, upstream: Sequence[ArtifactRef] = ()) -> ArtifactRef:
    """An artifact that holds `text`."""

    def build(out: Path) -> None:
        out.write_text(text)

    return store.produce(stage, Training(), [text], build, upstream=upstream)


@pytest.fixture
def artifact(store: Path) -> ArtifactRef:
    opened = Store.open(store)
    ref = opened.produce(NUMBER, Training(), ["1"], lambda out: out.write_text("one") and None)
    return opened.produce(
        NUMBER, Training(), ["2"], lambda out: out.write_text("two") and None, upstream=[ref]
    )


def test_store_init_makes_a_store(tmp_path: Path) -> None:
    result = call("store", "init", tmp_path / "new")
    assert result.exit_code == 0, result.output
    assert Store.open(tmp_path / "new")
    assert f"store ready: {tmp_path}/new" in result.output


def test_store_ls_lists(store: Path, artifact: ArtifactRef) -> None:
    result = call("store", "ls", store)
    assert result.exit_code == 0
    assert artifact.path in result.output
    assert "2 artifacts, 6 B" in result.output
    assert "0 artifacts" in call("store", "ls", store, "--stage", "scene").output


def test_store_ls_says_what_is_stale(store: Path) -> None:
    opened = Store.open(store)
    old, new = made(opened, "1"), made(opened, "2")
    total = made(opened, "1", Stage(name="total", suffix=".txt"), [old])
    for refs in ({"number": old, "total": total}, {"number": new}):
        ledger.save(opened, ledger.start(opened, "photos").with_refs(refs).finished("completed"))
    (line,) = [line for line in call("store", "ls", store).output.splitlines() if "stale" in line]
    assert total.path in line
    assert f"built from number {old.content_sha256[:16]}, current is {new.content_sha256[:16]}" in line


def test_store_verify_is_1_for_damage(store: Path, artifact: ArtifactRef) -> None:
    assert call("store", "verify", store).exit_code == 0
    (store / artifact.path).write_text("twa")
    result = call("store", "verify", store)
    assert result.exit_code == 1
    assert f"damaged: {artifact.path}" in result.output
    assert "1 intact, 1 damaged or missing, 0 orphans" in result.output


def test_store_gc_is_dry_unless_told(store: Path, artifact: ArtifactRef) -> None:
    result = call("store", "gc", store)
    assert "2 entries, 6 Bytes would be removed (dry run" in result.output
    assert (store / artifact.path).exists()
    assert "2 entries, 6 Bytes removed" in call("store", "gc", store, "--delete").output
    assert not (store / artifact.path).exists()


def test_store_gc_keeps_what_a_run_holds_until_it_is_dropped(store: Path, artifact: ArtifactRef) -> None:
    opened = Store.open(store)
    record = ledger.start(opened, "photos").with_refs({"number": artifact}).finished("completed")
    ledger.save(opened, record)
    assert "0 entries" in call("store", "gc", store, "--delete").output
    assert call("store", "gc", store, "--drop-run", record.id).exit_code == 2
    assert "2 entries" in call("store", "gc", store, "--delete", "--drop-run", record.id).output
    assert call("store", "gc", store, "--delete", "--drop-run", "nothing").exit_code == 2


def test_store_lineage_and_migrate(store: Path, artifact: ArtifactRef) -> None:
    result = call("store", "lineage", store / artifact.path, "--store", store)
    first, second = result.output.splitlines()
    assert first.startswith(artifact.path)
    assert second.startswith("  number/")
    assert call("store", "lineage", store / "no.h5", "--store", store).exit_code == 2
    assert "2 artifacts indexed" in call("store", "migrate", store).output


@pytest.mark.parametrize("command", ["ls", "verify", "gc", "migrate"])
def test_a_folder_that_is_no_store_is_2(tmp_path: Path, command: str) -> None:
    result = call("store", command, tmp_path)
    assert result.exit_code == 2
    assert "is not a store; make one with" in result.output


def test_inspect_shows_a_file(tmp_path: Path) -> None:
    import h5py

    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["points/xyz"] = [[1.0, 2.0, 3.0]]
    result = call("inspect", tmp_path / "a.h5")
    assert "xyz" in result.output
    assert json.loads(call("inspect", tmp_path / "a.h5", "--json").output)["path"].endswith("a.h5")
    assert call("inspect", tmp_path / "absent.h5").exit_code == 2


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    code = "import sys, flows.cli.main\n"
    code += "print([m for m in ('prefect', 'torch', 'h5py', 'numpy') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_help_names_every_command() -> None:
    output = call("--help").output
    assert all(
        name in output for name in ("run", "demo", "stage", "export", "inspect", "store", "index", "search")
    )
    assert SimpleNamespace(**{n: n for n in cli_run.StageName}).whiten == "whiten"


def test_what_a_command_imports_is_not_looked_through_for_garbage() -> None:
    kept: list[object] = []

    def load() -> str:
        assert not gc.isenabled()
        kept.append([])
        return "the flow"

    before = gc.get_freeze_count()
    try:
        assert common._loaded(load) == "the flow"
        assert gc.isenabled() and gc.get_freeze_count() > before
        assert all(each is not kept[0] for each in gc.get_objects())
    finally:
        gc.unfreeze()


def test_export_names_every_network_and_whitening_of_a_run() -> None:
    from typing import get_args

    from flows.cli import export
    from flows.options.names import METHODS, NETWORKS

    assert set(get_args(export.Whitening)) == {*METHODS, "none"}
    assert set(get_args(export.Network)) == set(NETWORKS)
