"""What the cache promises, each promise tried on real runs of the command line.

    python -m benchmarks.acceptance_cache [PHOTOS] [--store DIR] [--set KEY=VALUE ...]

Without PHOTOS a small town is rendered and the options are such that all of it takes about ten minutes on two
cores. Everything happens on copies in a temporary folder; with --store that store, finished or not, is the
one to start from (it is copied). Exit code 1 if a promise was not held.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from benchmarks.acceptance_runs import (
    MINUTE_SETS,
    Bench,
    Checks,
    Outcome,
    copy_code,
    differing,
    latest_record,
    small_town,
    text_of,
)
from storage.keys.artifacts import ArtifactRef

LIMIT_S = 25.0
"""Longest a fully cached run may take on two idle cores, s."""

RESOURCES = (
    "processes=1",
    "device=cpu",
    "threads=1",
    "loader_threads=2",
    "batch_size=3",
    "cache_megabytes=50",
    "max_megapixels=150",
    "photographs_per_task=7",
    "pairs_per_task=33",
    "training_processes=2",
    "checkpoint_steps=3",
    "chunk_time_limit_s=999",
    "mapping_time_limit_s=888",
    "dask_address=tcp://127.0.0.1:9",
    "gpu_slot=never-waited-for",
)


def main(arguments: list[str] | None = None) -> int:
    asked = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="acceptance-") as folder:
        root = Path(folder)
        photos = (
            copy_photographs(asked.photos, root / "photos") if asked.photos else small_town(root / "photos")
        )
        sets = tuple(asked.set) or (() if asked.photos else MINUTE_SETS)
        if asked.store:
            shutil.copytree(asked.store, root / "store")
        checks = Checks()
        bench = Bench(photos, root / "store", sets, code=copy_code(root / "code"))
        Acceptance(checks, bench, root).run(asked.only)
        return checks.finish("what the cache promises")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="What the cache promises, tried.")
    parser.add_argument("photos", nargs="?", type=Path, help="folder of photographs; none: a small town")
    parser.add_argument("--store", type=Path, help="store to start from, copied")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="option of every run")
    parser.add_argument("--only", default="", help="only checks whose name contains this")
    return parser


class Acceptance:
    """The checks, in the order in which they are made; each leaves the store complete for the next."""

    def __init__(self, checks: Checks, bench: Bench, root: Path) -> None:
        self.checks, self.bench, self.root = checks, bench, root

    def run(self, only: str = "") -> None:
        self.first = self.bench.run()
        assert self.first.record is not None
        self.record = self.first.record
        figures = f"{self.first.seconds:.1f} s, {sum(self.first.ran().values())} tasks ran"
        self.checks.add("full run", True, figures)
        for name, check in self.all():
            if only in name:
                check(name)

    def all(self) -> list[tuple[str, Callable[[str], None]]]:
        """Every check by name."""
        damages = [
            (f"{what}: {kind}", self.damaged(path, stage, harm))
            for kind, stage, path in self.kinds()
            for what, harm in (("deleted", delete), ("a byte flipped", flip))
        ]
        return [
            ("the same command again", self.again),
            *damages,
            ("a byte flipped behind our back, --verify: scene", self.flipped_unseen),
            ("comments and docstrings edited", self.comments),
            ("inert code edit of sfm/scene/scene.py", self.inert_edit),
            ("every resource changed", self.resources),
            ("two stores in turn", self.two_stores),
            ("store moved", self.store_moved),
            ("photographs moved", self.photographs_moved),
            ("a photograph added that sorts first", self.added),
        ]

    def kinds(self) -> list[tuple[str, str, Callable[[], Path]]]:
        """What a file is called, the stage that makes it, and how to find one."""
        return [
            ("scene (HDF5)", "scene", lambda: self.file("scene")),
            ("chunk of features (HDF5)", "features", lambda: self.file("features")),
            ("file of a COLMAP model", "mapping", lambda: self.file("mapping", "points3D.bin")),
            ("fine-tuned network", "finetune", lambda: self.file("finetune", "network.safetensors")),
            ("network off the shelf", "network", lambda: self.file("network")),
            ("working copy", "working", lambda: self.file("working", "*.jpg")),
        ]

    def file(self, name: str, member: str = "") -> Path:
        """An artifact of the first run, or the first member of one that fits a pattern."""
        for ref in self.record.refs_of(name):
            path = self.bench.store / ref.path
            found = sorted(path.rglob(member)) if member else [path]
            if found:
                return found[0]
        raise FileNotFoundError(f"no {member or 'file'} in the artifacts {name!r} of run {self.record.id}")

    def expect(
        self, name: str, outcome: Outcome, ran: dict[str, int], more: str = "", held: bool = True
    ) -> None:
        """Exactly these tasks ran, and every content digest is that of the first run."""
        other = differing(self.first.digests(), outcome.digests())
        made = {stage: count for stage, count in outcome.made_per_stage().items() if stage != "scan"}
        good = held and outcome.ran() == ran and set(made) == set(ran) and not other
        figures = f"{outcome.seconds:.1f} s, ran: {text_of(outcome.ran())}, cached {outcome.cached()}"
        figures += f", other content: {', '.join(other)}" if other else ", content the same"
        self.checks.add(name, good, figures + more)

    def again(self, name: str) -> None:
        outcome = self.bench.run()
        same = outcome.digests()["evaluation"] == self.first.digests()["evaluation"]
        heavy = f", imported: {', '.join(outcome.heavy) or 'no heavy library'}"
        limit = f", limit {LIMIT_S:.0f} s, evaluation {'identical' if same else 'differs'}"
        self.expect(name, outcome, {}, limit + heavy, same and not outcome.heavy)
        self.checks.add(f"{name}: wall time", outcome.seconds <= LIMIT_S, f"{outcome.seconds:.1f} s")

    def damaged(
        self, path: Callable[[], Path], stage: str, harm: Callable[[Path], None]
    ) -> Callable[[str], None]:
        def check(name: str) -> None:
            harm(path())
            self.expect(name, self.bench.run(), {stage: 1})

        return check

    def flipped_unseen(self, name: str) -> None:
        path = self.file("scene")
        stat = path.stat()
        flip(path)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        self.expect(name, self.bench.run("--verify"), {"scene": 1})

    def comments(self, name: str) -> None:
        clone = copy_code(self.root / "comments")
        edited = [
            edit_comments(path)
            for part in ("sfm", "retrieval", "storage")
            for path in (clone / part).rglob("*.py")
        ]
        outcome = replace(self.bench, code=clone).run()
        self.expect(
            name,
            outcome,
            {},
            f", {sum(edited)} of {len(edited)} modules have another docstring, all a comment",
        )

    def inert_edit(self, name: str) -> None:
        clone = copy_code(self.root / "inert")
        with (clone / "sfm" / "scene.py").open("a", encoding="utf-8") as file:
            file.write("\n_INERT = 1\n")
        self.expect(name, replace(self.bench, code=clone).run(), {"scene": 1})

    def resources(self, name: str) -> None:
        from flows.options.pipeline import PipelineResources

        named = {text.split("=")[0] for text in RESOURCES}
        forgotten = set(PipelineResources.model_fields) - named - {"photos"}
        sets = (*self.bench.sets, *(f"resources.{text}" for text in RESOURCES))
        outcome = replace(self.bench, sets=sets).run()
        more = f", {len(named)} resources, not tried: {', '.join(sorted(forgotten)) or 'none'}"
        self.expect(name, outcome, {}, more, not forgotten)

    def two_stores(self, name: str) -> None:
        """One that has everything, an empty one, and both again, by one process."""
        full, empty = self.bench.store, self.root / "empty"
        sets = [part for text in self.bench.sets for part in ("--set", text)]
        stores = [str(full), str(empty), str(full), str(empty)]
        outcome = self.bench.call(["in-turn", str(self.bench.photos), *stores, *sets], empty)
        ran = [sum(count["run"] for count in call.values()) for call in outcome.calls]
        record = latest_record(empty)
        assert record is not None
        missing = [ref.path for ref in record.all_refs() if not (empty / ref.path).exists()]
        leaked = [path for path in files_that_name(empty, str(full)) + files_that_name(full, str(empty))]
        names = ("scene", "training_set")
        other = [n for n in names if self.first.digests()[n] != outcome.digests()[n]]
        held = ran[0] == ran[2] == ran[3] == 0 and ran[1] > 0 and not missing and not leaked and not other
        figures = f"{outcome.seconds:.1f} s, tasks that ran: full {ran[0]}, empty {ran[1]}, full {ran[2]}, "
        figures += f"no longer empty {ran[3]}; missing {len(missing)}, other content {other or 'none'}, "
        figures += f"files that name the other store {len(leaked)}"
        self.checks.add(name, held, figures)

    def store_moved(self, name: str) -> None:
        moved = self.root / "elsewhere" / "store with a space"
        moved.parent.mkdir()
        self.bench.store.rename(moved)
        self.bench = replace(self.bench, store=moved)
        self.expect(name, self.bench.run(), {})

    def photographs_moved(self, name: str) -> None:
        moved = self.root / "other photographs"
        self.bench.photos.rename(moved)
        self.bench = replace(self.bench, photos=moved)
        self.expect(name, self.bench.run(), {})

    def added(self, name: str) -> None:
        """A photograph whose sha256 and name sort before all others."""
        networks = network_digests(self.bench, self.record)
        sha = add_first(self.bench.photos, [ref for ref in self.record.refs_of("features")], self.bench)
        outcome = self.bench.run()
        items = {
            stage: [item for made in outcome.made if made.ref.stage == stage for item in made.items]
            for stage in ("working", "features", "matches")
        }
        for stage in ("working", "features"):
            count = len(items[stage])
            self.checks.add(
                f"{name}: {stage}", items[stage] == [sha], f"{count} computed, {outcome.seconds:.1f} s"
            )
        foreign = [item for item in items["matches"] if sha not in item]
        figures = f"{len(items['matches'])} pairs matched, {len(foreign)} of them without it"
        self.checks.add(f"{name}: matches", bool(items["matches"]) and not foreign, figures)
        self.descriptors_of_added(name, sha, outcome, networks)

    def descriptors_of_added(self, name: str, sha: str, outcome: Outcome, networks: set[str]) -> None:
        """Networks that were there describe it alone; a network that was trained anew describes all."""
        assert outcome.record is not None
        chunks = [made for made in outcome.made if made.ref.stage == "descriptors"]
        known = [made.items for made in chunks if descriptor_network(self.bench, made.ref) in networks]
        new = [made.items for made in chunks if descriptor_network(self.bench, made.ref) not in networks]
        held = bool(known) and all(items == (sha,) for items in known)
        retrained = network_digests(self.bench, outcome.record) - networks
        figures = f"{[len(items) for items in known]} computed by networks that were there"
        figures += f"; {[len(items) for items in new]} by {len(retrained)} network trained anew on it"
        self.checks.add(f"{name}: descriptors", held and bool(new) == bool(retrained), figures)


def network_digests(bench: Bench, record: object) -> set[str]:
    """Digest of the weights of every network of a run."""
    from storage.store.ledger import RunRecord
    from storage.store.store import Store
    from tasks.describing import network_digest

    assert isinstance(record, RunRecord)
    store = Store.open(bench.store)
    names = ("proposal_network", "network", "finetune")
    return {network_digest(store, ref) for name in names for ref in record.refs_of(name)}


def descriptor_network(bench: Bench, ref: ArtifactRef) -> str:
    """Digest of the network behind a chunk of descriptors: the input digest of its items."""
    from storage.store import chunks as items
    from storage.store.store import Store

    found = {facts["input"] for facts in items.read(Store.open(bench.store).root, ref).values()}
    assert len(found) == 1
    return found.pop()


def copy_photographs(folder: Path, target: Path) -> Path:
    """A copy that can be moved and added to; modification times stay."""
    shutil.copytree(folder, target)
    for path in [target, *target.rglob("*")]:
        path.chmod(path.stat().st_mode | 0o700)
    return target


def add_first(photos: Path, chunks: list[ArtifactRef], bench: Bench) -> str:
    """A mirrored photograph, with bytes after its end that make its sha256 the smallest; its sha256."""
    import hashlib

    from PIL import Image, ImageOps

    from storage.store.store import Store

    store = Store.open(bench.store)
    smallest = min(sha for ref in chunks for sha in store.item_digests(ref))
    source = min(path for path in photos.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    encoded = io.BytesIO()
    ImageOps.mirror(Image.open(source).convert("RGB")).save(encoded, "JPEG", quality=92)
    for number in range(1_000_000):
        content = encoded.getvalue() + number.to_bytes(8, "little")
        sha = hashlib.sha256(content).hexdigest()
        if sha < smallest:
            (photos / "!first.jpg").write_bytes(content)
            return sha
    raise RuntimeError("no sha256 below the smallest in a million tries")


def delete(path: Path) -> None:
    """Remove a file."""
    path.unlink()


def flip(path: Path) -> None:
    """Invert one byte in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    mode = path.stat().st_mode
    path.chmod(mode | 0o200)
    path.write_bytes(content)
    path.chmod(mode)


def edit_comments(path: Path) -> bool:
    """Another first docstring where there is one (whether that was), a comment above and one below."""
    text = path.read_text(encoding="utf-8")
    edited, count = re.subn(r'\A(r?""")', r"\1Reworded. ", text, count=1)
    path.write_text(f"# A comment above.\n{edited}\n\n# A comment below.\n", encoding="utf-8")
    return bool(count)


def files_that_name(store: Path, other: str) -> list[Path]:
    """Records and sidecars of a store in which another store's path stands."""
    found = []
    for path in [*store.glob("prefect/results/**/*"), *store.glob("*/*.json"), *store.glob("index/**/*")]:
        if path.is_file() and other.encode() in path.read_bytes():
            found.append(path)
    return found


if __name__ == "__main__":
    sys.exit(main())
