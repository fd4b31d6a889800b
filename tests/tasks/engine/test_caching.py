"""Real flows on a real server: what is computed, what is Cached, what happens to a damaged store."""

import errno
import json
import shutil
from collections import Counter
from inspect import signature
from pathlib import Path

import pytest
from prefect import flow
from prefect.client.schemas.objects import State

from flows.server.context import Session
from storage.keys.artifacts import ArtifactRef, items_digest
from storage.keys.options import ContentPath, Options
from storage.keys.stages import Stage
from storage.store.store import Store
from tasks.engine.caching import StagePolicy, WrongInput, WrongStageTask, running, stage_task
from tasks.engine.chunks import Chunk, Items, Known, Part
from tasks.engine.records import RESULTS
from tasks.engine.runtime import reset_tallies, tallies
from tests.tasks import toy_stages as toy

ALL = {"number 0": 1, "number 1": 1, "number 2": 1, "folder": 1, "total": 1}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "store", min_free_bytes=0)


def run(command: Session, store: Store, **options: object) -> tuple[str, Counter[str]]:
    """(content of the total, what was computed) of one run of the toy flow."""
    toy.COMPUTED.clear()
    ref = command.run(toy.add, store=str(store.root), **options)
    return store.path(ref).read_text(), Counter(toy.COMPUTED)


def test_a_second_run_is_cached(command: Session, store: Store) -> None:
    assert run(command, store) == ("3", Counter(ALL))
    reset_tallies()
    assert run(command, store) == ("3", Counter())
    assert tallies() == {
        s: {"cached": n, "run": 0} for s, n in {"number": 3, "folder": 1, "total": 1}.items()
    }


def test_prefect_says_cached(command: Session, store: Store) -> None:
    arguments = {"store": str(store.root), "options": toy.NumberOptions(), "start": toy.known("4")}
    states: list[State[ArtifactRef]] = []

    @flow(persist_result=False)
    def twice() -> None:
        states.extend(toy.number(**arguments, return_state=True) for _ in range(2))

    command.run(twice)
    assert [state.name for state in states] == ["Completed", "Cached"]


def test_options_and_inputs_are_in_the_key_resources_are_not(command: Session, store: Store) -> None:
    run(command, store)
    moved_photos = toy.Workers(workers=1, photo_root="/elsewhere")
    assert run(command, store, resources=moved_photos) == ("3", Counter())
    assert run(command, store, total_options=toy.TotalOptions(offset=10)) == (
        "13",
        Counter({"folder": 1, "total": 1}),
    )
    assert run(command, store, count=4) == ("6", Counter({"number 3": 1, "total": 1}))


@pytest.mark.parametrize("damage", ["delete", "flip"])
@pytest.mark.parametrize("stage", ["number", "folder", "total"])
def test_a_damaged_artifact_is_rebuilt_alone(command: Session, store: Store, stage: str, damage: str) -> None:
    run(command, store, count=1)
    (artifact,) = [p for p in (store.root / stage).iterdir() if not p.name.endswith(".json")]
    victim = artifact / "b.bin" if artifact.is_dir() else artifact
    if damage == "delete":
        victim.unlink()
    else:
        victim.write_bytes(bytes([victim.read_bytes()[0] ^ 1]) + victim.read_bytes()[1:])
    rebuilt = {"number": "number 0"}.get(stage, stage)
    assert run(command, store, count=1) == ("0", Counter({rebuilt: 1}))
    assert run(command, store, count=1) == ("0", Counter())


def test_a_flip_behind_the_clock_is_found_by_full_verification(
    command: Session, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os
    import time

    run(command, store, count=1)
    time.sleep(0.05)
    run(command, store, count=1)  # remembers the verification with a settled mtime
    victim = next((store.root / "total").glob("*.txt"))
    before = victim.stat()
    victim.write_text("7")
    os.utime(victim, ns=(before.st_atime_ns, before.st_mtime_ns))
    monkeypatch.setenv("RETRIEVAL_SFM_VERIFY", "full")
    assert run(command, store, count=1) == ("0", Counter({"total": 1}))


@pytest.mark.parametrize("content", [b"", b"{", b"\x80\x04", b'{"metadata": {}, "result": "[]"}'])
def test_garbled_records_are_written_anew_from_the_store(
    command: Session, store: Store, content: bytes
) -> None:
    run(command, store)
    for record in (store.root / RESULTS).iterdir():
        record.write_bytes(content)
    assert run(command, store) == ("3", Counter())


def test_lost_records_cost_nothing(command: Session, store: Store) -> None:
    run(command, store)
    shutil.rmtree(store.root / "prefect")
    assert run(command, store) == ("3", Counter())


def test_nothing_in_a_record_is_unpickled(command: Session, store: Store, tmp_path: Path) -> None:
    """A record that claims to be a pickle is replaced before Prefect reads it."""
    import base64
    import pickle

    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (Path(tmp_path / "exploded"),))  # type: ignore[return-value]

    run(command, store, count=1)
    for record in (store.root / RESULTS).iterdir():
        content = json.loads(record.read_text())
        content["metadata"]["serializer"] = {"type": "pickle", "picklelib": "cloudpickle"}
        content["result"] = base64.encodebytes(pickle.dumps(Bomb())).decode()
        record.write_text(json.dumps(content))
    assert run(command, store, count=1) == ("0", Counter())
    assert not (tmp_path / "exploded").exists()


def test_two_stores_in_one_process_do_not_cross(command: Session, store: Store, tmp_path: Path) -> None:
    other = Store.create(tmp_path / "other", min_free_bytes=0)
    assert run(command, store) == ("3", Counter(ALL))
    assert run(command, other) == ("3", Counter(ALL))
    keys = {p.name for p in (store.root / RESULTS).iterdir()}
    assert len(keys) == 5
    assert keys == {p.name for p in (other.root / RESULTS).iterdir()}
    shutil.rmtree(store.root / "total")
    assert run(command, other) == ("3", Counter())
    assert run(command, store) == ("3", Counter({"total": 1}))


def test_a_moved_store_is_cached_and_names_no_place(command: Session, store: Store, tmp_path: Path) -> None:
    run(command, store)
    shutil.move(store.root, tmp_path / "moved")
    moved = Store.open(tmp_path / "moved")
    assert run(command, moved) == ("3", Counter())
    assert not store.root.exists()
    for path in [*(moved.root / RESULTS).iterdir(), *moved.root.glob("*/*.json")]:
        assert str(tmp_path) not in path.read_text(), path


def test_force_computes_again(command: Session, store: Store) -> None:
    run(command, store)
    arguments = {"store": str(store.root), "options": toy.NumberOptions(), "start": toy.known("1")}

    @flow(persist_result=False)
    def again() -> None:
        toy.number.with_options(refresh_cache=True)(**arguments)

    toy.COMPUTED.clear()
    command.run(again)
    assert Counter({"number 1": 1}) == toy.COMPUTED


def test_without_prefect_the_same_artifact(store: Store, command: Session) -> None:
    ref = toy.number.fn(store=str(store.root), options=toy.NumberOptions(factor=2), start=toy.known("21"))
    assert store.path(ref).read_text() == "42"
    toy.COMPUTED.clear()
    again = command.run(
        toy.number, store=str(store.root), options=toy.NumberOptions(factor=2), start=toy.known("21")
    )
    assert (again, toy.COMPUTED) == (ref, Counter())


FAILS = Stage(name="fails", version=1, kind="file", suffix=".txt")
ATTEMPTS: Counter[str] = Counter()


class Failure(Options):
    error: str
    times: int = 1


ERRORS: dict[str, Exception] = {
    "bad value": ValueError("radius -1: must be positive"),
    "stale handle": OSError(errno.ESTALE, "stale file handle"),
    "no room": OSError(errno.ENOSPC, "no space left"),
    "no file": FileNotFoundError(errno.ENOENT, "no such file", "a.jpg"),
    "bug": RuntimeError("unexpected"),
}


@stage_task(FAILS, retry_delay_seconds=[0.01], retry_jitter_factor=None)
def fails(out: Path, options: Failure) -> None:
    ATTEMPTS[options.error] += 1
    if ATTEMPTS[options.error] <= options.times:
        raise ERRORS[options.error]
    out.write_text("done")


@flow(persist_result=False)
def failing(store: str, options: Failure) -> ArtifactRef:
    return fails(store=store, options=options)


def test_input_output_errors_are_retried(command: Session, store: Store) -> None:
    ATTEMPTS.clear()
    ref = command.run(failing, str(store.root), Failure(error="stale handle", times=2))
    assert store.path(ref).read_text() == "done"
    assert ATTEMPTS["stale handle"] == 3


@pytest.mark.parametrize("error", ["bad value", "no room", "no file", "bug"])
def test_what_cannot_pass_is_not_retried(command: Session, store: Store, error: str) -> None:
    ATTEMPTS.clear()
    with pytest.raises(type(ERRORS[error]), match=str(ERRORS[error]).split(":")[0].replace("[", ".")):
        command.run(failing, str(store.root), Failure(error=error, times=9))
    assert ATTEMPTS[error] == 1


class NotData(Options):
    path: Path


def test_an_error_in_the_key_is_loud(command: Session, store: Store) -> None:
    """Prefect alone would log it and run uncached, green."""

    @stage_task(Stage(name="keyless"))
    def keyless(out: Path, options: NotData) -> None:
        out.write_text("never")

    @flow(persist_result=False)
    def use() -> ArtifactRef:
        return keyless(store=str(store.root), options=NotData(path=Path("weights.pt")))

    with pytest.raises(ValueError, match="plain path"):
        command.run(use)
    assert not (store.root / "keyless").exists()


def test_an_input_without_a_digest_is_an_error(command: Session, store: Store) -> None:
    @stage_task(Stage(name="labelled"))
    def labelled(out: Path, options: toy.NumberOptions, photos: list[str]) -> None:
        out.touch()

    with pytest.raises(WrongInput, match="'photos' is a list without a content digest"):
        labelled.fn(store=str(store.root), options=toy.NumberOptions(), photos=["a.jpg"])


def test_labels_are_not_in_the_key(store: Store) -> None:
    @stage_task(Stage(name="labelled"), labels=["title"])
    def labelled(out: Path, options: toy.NumberOptions, start: Known, title: str) -> None:
        out.write_text("x")

    arguments = {"store": str(store.root), "options": toy.NumberOptions(), "start": toy.known("1")}
    assert labelled.fn(**arguments, title="a") == labelled.fn(**arguments, title="b")


def test_the_convention_is_checked_at_the_definition() -> None:
    def no_out(options: toy.NumberOptions) -> None:
        raise AssertionError

    def no_options(out: Path, first: ArtifactRef) -> None:
        raise AssertionError

    for wrong in (no_out, no_options):
        with pytest.raises(WrongStageTask, match=f"{wrong.__name__}: begin with out, and take options"):
            stage_task(toy.NUMBER)(wrong)
    with pytest.raises(WrongStageTask, match="labels \\['title'\\] are not parameters"):
        stage_task(toy.NUMBER, labels=("title",))(toy.number.fn.__wrapped__)
    with pytest.raises(WrongStageTask, match="only the body of a stage task"):
        running()


def test_the_task_takes_the_store_in_place_of_the_path() -> None:
    assert list(signature(toy.total).parameters) == ["store", "options", "numbers", "resources"]


def test_a_missing_optional_input_has_its_own_key(store: Store) -> None:
    policy = StagePolicy(stage=toy.TOTAL, parameters=("before", "after"))
    ref = toy.number.fn(store=str(store.root), options=toy.NumberOptions(), start=toy.known("1"))
    base = {"store": str(store.root), "options": toy.TotalOptions()}
    first = policy.call({**base, "before": ref, "after": None}, force=False)
    second = policy.call({**base, "before": None, "after": ref}, force=False)
    assert first.inputs == (ref.content_sha256, "none")
    assert first.key != second.key
    assert first.upstream == second.upstream == (ref,)


def test_a_task_can_be_sent_to_another_process(store: Store) -> None:
    """Dask and process pools send tasks with cloudpickle."""
    import cloudpickle

    sent = cloudpickle.loads(cloudpickle.dumps(toy.number))
    arguments = {"store": str(store.root), "options": toy.NumberOptions(), "start": toy.known("5")}
    assert sent.fn(**arguments) == toy.number.fn(**arguments)
    assert sent.cache_policy == toy.number.cache_policy


class Weights(Options):
    weights: ContentPath


@stage_task(Stage(name="weighed", suffix=".txt"))
def weighed(out: Path, options: Weights) -> None:
    toy.COMPUTED["weighed"] += 1
    out.write_text(options.weights.read_text())


@flow(persist_result=False)
def weigh(store: str, options: Weights) -> ArtifactRef:
    return weighed(store=store, options=options)


def test_the_content_behind_an_option_counts_not_its_place(
    command: Session, store: Store, tmp_path: Path
) -> None:
    first, second = tmp_path / "a.pt", tmp_path / "b.pt"
    first.write_text("7")
    second.write_text("7")
    toy.COMPUTED.clear()
    ref = command.run(weigh, str(store.root), Weights(weights=first))
    assert command.run(weigh, str(store.root), Weights(weights=second)) == ref
    assert dict(toy.COMPUTED) == {"weighed": 1}
    second.write_text("8")
    assert command.run(weigh, str(store.root), Weights(weights=second)) != ref


def test_artifacts_among_labels_are_ancestors_and_not_in_the_key(store: Store) -> None:
    """However deep they are held; once each; a label without any is nothing."""

    @stage_task(Stage(name="held", suffix=".txt"), labels=("one", "many", "deep", "text"))
    def held(
        out: Path,
        options: Options,
        start: Known,
        first: ArtifactRef,
        one: ArtifactRef | None = None,
        many: list[ArtifactRef] | None = None,
        deep: list[dict[str, object]] | None = None,
        text: str = "",
    ) -> None:
        out.write_text("x")

    refs = [
        toy.number.fn(store=str(store.root), options=toy.NumberOptions(), start=toy.known(str(i)))
        for i in range(4)
    ]
    common = {"store": str(store.root), "options": Options(), "start": toy.known("a"), "first": refs[0]}
    plain = held.fn(**common)
    assert store.sidecar(plain).upstream == (refs[0],)
    policy = held.cache_policy
    assert isinstance(policy, StagePolicy)
    labels = {"one": refs[1], "many": [refs[2], refs[1]], "deep": [{"a": [refs[3]], "b": None}], "text": "t"}
    call = policy.call({**common, **labels}, force=False)
    assert call.key == plain.key
    assert call.upstream == (refs[0], refs[1], refs[2], refs[3])
    assert held.fn(**common, **labels) == plain


@stage_task(FAILS, labels=("shown",))
def from_items(
    out: Path,
    options: Options,
    whole: ArtifactRef,
    items: Items,
    several: list[Items],
    part: Part,
    chunk: Chunk,
    shown: str = "",
) -> None:
    out.write_text("made")


def test_inputs_are_in_the_key_by_their_own_digests(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of the parameters; the artifacts behind them are ancestors."""
    refs = [
        toy.number.fn(str(store.root), toy.NumberOptions(), toy.known(str(number))) for number in range(4)
    ]
    asked: list[object] = []
    monkeypatch.setattr(
        "tasks.engine.chunks.items_input", lambda *about: asked.append(about) or f"items {about[2]}"
    )
    items, others, chunk = Items([refs[1]], ["a"]), Items([refs[1]], ["b"]), Chunk({"c": "x"}, [refs[3]])
    given = {"whole": refs[0], "items": items, "several": [others, items], "chunk": chunk}
    policy = from_items.cache_policy
    assert isinstance(policy, StagePolicy)
    arguments = {"store": str(store.root), "options": Options(), **given, "part": Part([refs[2]], ["x", "y"])}
    calls = [policy.call(arguments, force=False) for _ in range(2)]
    expected = (refs[0].content_sha256, "items ['a']", "items ['b']", "items ['a']", "x", "y")
    assert calls[0].inputs == calls[1].inputs == (*expected, items_digest({"c": "x"}))
    assert calls[0].upstream == tuple(refs)
    assert asked == [(calls[0].store, [refs[1]], names) for names in (["a"], ["b"])]
