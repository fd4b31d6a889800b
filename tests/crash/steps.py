"""A process that dies, or whose disk is full, at every step that it takes on a store: nothing wrong is left.

    python -m tests.crash.steps [SCENARIO ...]

A step is a change of a file or folder below the store, told by Python's audit events just before it happens:
a file is opened for writing, renamed, removed, a folder is made or removed. Each scenario is done once to
count its steps, then once for each step and fault on a store of its own, then again to its end. Then the
contents must be as undisturbed, every byte intact, and no lock, temporary or unfinished file left. Prints a
line of JSON per scenario; exit code 1 if something did not hold.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from storage.hdf5 import file as hdf5
from storage.keys.options import Options
from storage.keys.stages import Stage
from storage.store import ledger, maintenance
from storage.store.store import Store

Fault = Literal["kill", "no room"]
FAULTS: tuple[Fault, ...] = ("kill", "no room")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink"}
ITEMS = Stage(name="features", schema_name="features", suffix=".h5")
FOLDER = Stage(name="mapping", kind="directory")
SHA = [f"{value:064x}" for value in range(1, 7)]


@dataclass(frozen=True)
class Scenario:
    """What is done to a store; before: how it is made first. Twice the same leaves what once leaves."""

    name: str
    action: Callable[[Store], None]
    before: Callable[[Store], None] = lambda store: None


class Steps:
    """Counts the changes below a folder; at one of them the fault happens. An audit hook cannot be removed:
    for processes that end soon."""

    def __init__(self, root: Path, at: int = -1, fault: Fault = "kill") -> None:
        self.root, self.at, self.fault, self.seen = str(root), at, fault, list[str]()
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        step = change(event, arguments, self.root)
        if step is None:
            return
        self.seen.append(step)
        if len(self.seen) - 1 == self.at:
            if self.fault == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def change(event: str, arguments: tuple[Any, ...], root: str) -> str | None:
    """A step as text, with digests and random parts of names left out; None for what changes nothing."""
    if event == "open":
        path, mode, flags = arguments
        writes = any(letter in mode for letter in "wax+") if mode else bool(flags & WRITING)
        if not writes:
            return None
        event = "write"
    elif event not in CHANGES:
        return None
    path = arguments[0]
    text = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else ""
    return f"{event.removeprefix('os.')} {os.path.relpath(text, root)}" if text.startswith(root) else None


def build_items(store: Store) -> None:
    def build(path: Path) -> dict[str, Any]:
        facts = {}
        with hdf5.ItemWriter(path, "features", stage="features", options={}, inputs=SHA[:1]) as writer:
            for sha in SHA[:2]:
                content = writer.add(
                    sha,
                    keypoints=np.ones((3, 2), np.float32),
                    descriptors=np.zeros((128, 3), np.uint8),
                    scores=np.ones(3, np.float32),
                    image_size=np.array([9, 9]),
                )
                facts[sha] = {"input": sha, "content": content}
        return {"items": facts}

    ref = store.produce(ITEMS, Options(), SHA[:1], build)
    store.locate_items(ITEMS, Options(), {SHA[0]: SHA[0]})
    note(store, ref)


def build_folder(store: Store) -> None:
    def build(path: Path) -> None:
        (path / "0").mkdir()
        for name in ("0/cameras.bin", "0/points.bin", "summary.json"):
            (path / name).write_text("{}")

    note(store, store.produce(FOLDER, Options(), SHA[:1], build))


def note(store: Store, ref: Any) -> None:
    """A run that has the artifact begins and ends in the ledger."""
    record = ledger.start(store, "photos").with_refs({ref.stage: ref})
    ledger.save(store, record)
    ledger.save(store, record.finished("completed"))


def damage(store: Store) -> None:
    build_items(store)
    (path,) = (store.root / "features").glob("*.h5")
    path.write_bytes(path.read_bytes()[:-8])


def drop_runs(store: Store) -> None:
    build_items(store)
    for record in list(ledger.records(store)):
        ledger.delete(store, record.id)


def collect(store: Store) -> None:
    maintenance.gc(store, delete=True, keep_work_s=0.0)
    build_folder(store)


def rebuild(store: Store) -> None:
    maintenance.migrate(store)
    build_items(store)


SCENARIOS = (
    Scenario("items", build_items),
    Scenario("folder", build_folder),
    Scenario("damaged is made again", build_items, damage),
    Scenario("gc", collect, drop_runs),
    Scenario("index rebuilt", rebuild, build_items),
)


def main(names: list[str]) -> int:
    failed = 0
    for scenario in SCENARIOS:
        if not names or scenario.name in names:
            with tempfile.TemporaryDirectory(prefix="steps-") as folder:
                found = judge(scenario, Path(folder))
            failed += len(found["failures"])
            print(json.dumps(found), flush=True)
    return 1 if failed else 0


def judge(scenario: Scenario, folder: Path) -> dict[str, Any]:
    """Every step of a scenario with every fault: how many there were, and what did not hold."""
    first = folder / "first"
    in_child(lambda: scenario.before(Store.create(first, min_free_bytes=0)), folder)
    shutil.copytree(first, folder / "calm")
    steps = in_child(lambda: list(noted(scenario, folder / "calm")), folder)
    calm = in_child(lambda: contents(folder / "calm"), folder)
    failures = []
    for fault in FAULTS:
        for at, step in enumerate(steps):
            store = folder / f"{fault}-{at}"
            shutil.copytree(first, store)
            in_child(lambda store=store, at=at, fault=fault: disturbed(scenario, store, at, fault), folder)
            wrong = in_child(lambda store=store: after(scenario, store, calm), folder)
            if wrong:
                failures.append({"fault": fault, "step": step, "wrong": wrong})
            shutil.rmtree(store)
    return {"scenario": scenario.name, "steps": len(steps), "faults": len(FAULTS), "failures": failures}


def in_child(work: Callable[[], Any], folder: Path) -> Any:
    """What `work` returns in a forked process; None where that was killed or failed."""
    told = folder / "told.json"
    told.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            value = work()
            told.write_text(json.dumps(value))
            code = 0
        except OSError as error:
            code = 0 if error.errno == errno.ENOSPC else 1
            if code:
                sys.excepthook(*sys.exc_info())
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        return {"error": f"ended with code {os.WEXITSTATUS(status)}"}
    return json.loads(told.read_text()) if told.exists() else None


def noted(scenario: Scenario, store: Path) -> Iterator[str]:
    steps = Steps(store)
    scenario.action(Store.open(store))
    return iter(list(steps.seen))


def disturbed(scenario: Scenario, store: Path, at: int, fault: Fault) -> None:
    Steps(store, at, fault)
    scenario.action(Store.open(store))


def after(scenario: Scenario, root: Path, calm: Any) -> list[str]:
    """What is wrong once the same has been done again."""
    store = Store.open(root)
    scenario.action(store)
    ledger.start(store, "photos")  # the next run
    wrong = [f"{each.status}: {each.path}" for each in maintenance.verify(store) if each.status != "ok"]
    wrong += [f"left: {path.relative_to(root)}" for path in root.rglob("*") if is_left(path)]
    if (found := contents(root)) != calm:
        wrong.append(f"content {found}, undisturbed {calm}")
    return wrong


def is_left(path: Path) -> bool:
    """Whether a file or folder of a store is a lock, or something unfinished."""
    return path.name.startswith(".") or path.suffix == ".lock" or path.name.endswith((".partial", ".tmp"))


def contents(root: Path) -> dict[str, list[str]]:
    """Content digests per stage."""
    found: dict[str, list[str]] = {}
    for listed in maintenance.ls(Store.open(root)):
        found.setdefault(listed.ref.stage, []).append(listed.ref.content_sha256)
    return {stage: sorted(digests) for stage, digests in found.items()}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
