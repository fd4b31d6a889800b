"""Everything that `end_to_end` does, as a script: the library's functions in a row, files in a folder.

    python -m benchmarks.plain_run PHOTOS FOLDER [--config FILE] [--set KEY=VALUE ...]

No Prefect, no store, no keys, no cache, no pages; the order, the options, the chunks, the threads and the
child processes are those of the flow. It prints one line of JSON: name of a result -> its files.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.options.loading import load
from flows.options.pipeline import PipelineOptions, PipelineResources
from retrieval.describe.harder_queries import SPLITS, altered_queries, altered_rows
from retrieval.describe.options import ExtractionOptions
from retrieval.describe.rows import descriptor_rows
from retrieval.evaluation.judging import Judging
from retrieval.training.options import NETWORK_FILE, TRAINING_FILE
from sfm.features import sift
from sfm.mapping import cluster_files, clusters
from sfm.mapping import map as mapping
from sfm.matching import match as matching
from sfm.pairing import chunk_order, expansion, propose
from sfm.pairing.proposal import read_pairs
from sfm.photographs import catalogue, working
from sfm.photographs.outcome import read_outcomes
from sfm.scene import assembly
from sfm.scene.scene import Scene
from sfm.selection import stages
from storage.files.digests import safetensors_sha256
from storage.hdf5 import file as hdf5
from storage.hdf5.open import open_artifact
from storage.photographs.scanning import PhotoSource, scan
from tasks.engine.torch_process import end_torch_process, with_torch

Pair = tuple[str, str]


@dataclass
class PlainRun:
    """Where things are so far. copies, local: sha256 -> folder or file; matched: pair -> file."""

    photos: Path
    folder: Path
    options: PipelineOptions
    resources: PipelineResources
    made: dict[str, list[Path]] = field(default_factory=dict)
    copies: dict[str, Path] = field(default_factory=dict)
    local: dict[str, Path] = field(default_factory=dict)
    matched: dict[Pair, Path] = field(default_factory=dict)

    def new(self, name: str, suffix: str = ".h5") -> Path:
        """A path for the next result of this name."""
        found = self.made.setdefault(name, [])
        path = self.folder / name / f"{len(found)}{suffix}"
        (path if not suffix else path.parent).mkdir(parents=True, exist_ok=True)
        found.append(path)
        return path

    def run(self) -> None:
        """All stages, with the wall seconds of each on standard error."""
        steps = (
            self.read_photographs, self.describe_for_pairs, self.find_features, self.match, self.map_models,
            self.select, self.finetune, self.whiten_and_evaluate,
        )  # fmt: skip
        for step in steps:
            began = time.monotonic()
            step()
            print(f"{step.__name__}: {time.monotonic() - began:.1f} s", file=sys.stderr)

    def each(self, work: Callable[..., Any], calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        """The calls, as many at a time as the flow makes."""
        with ThreadPoolExecutor(self.resources.workers) as pool:
            return [future.result() for future in [pool.submit(work, *call) for call in calls]]

    def read_photographs(self) -> None:
        self.source = PhotoSource(self.photos, scan(self.photos, self.folder / "scan.json"))
        names = {each.sha256: each.name for each in self.source.table.entries if each.status == "ok"}
        wanted = [sha for sha, _ in catalogue.to_decode(self.source.table.entries)]
        chunks = self.chunks(wanted, self.resources.photographs_per_task)
        folders = [self.new("working", "") for _ in chunks]
        options = self.options.reconstruction.working
        calls = [
            ([(sha, self.source.path(names[sha])) for sha in chunk], options, folder)
            for chunk, folder in zip(chunks, folders, strict=True)
        ]
        self.each(working.make_working_copies, calls)
        self.copies = holding(chunks, folders)
        self.outcomes = read_outcomes(folders)
        self.catalogue = self.new("catalogue")
        files = self.source.table.entries
        found = catalogue.build_catalogue(files, folders, self.source.path, self.catalogue)
        self.shas = sorted(found.shas)
        self.names = {sha: names[sha] for sha in self.shas}

    def describe_for_pairs(self) -> None:
        options = self.options.reconstruction
        network = self.new("proposal_network", ".safetensors")
        with_torch("retrieval.networks.make:make_network", options.network, out=network)
        self.proposed = self.describe("proposal_descriptors", network, options.description)
        end_torch_process()

    def describe(self, name: str, network: Path, options: ExtractionOptions) -> dict[str, Path]:
        """sha256 -> file with its descriptor."""
        chunks = self.chunks(self.shas, self.resources.photographs_per_task)
        files = [self.new(name) for _ in chunks]
        for chunk, file in zip(chunks, files, strict=True):
            photographs = [(sha, self.source.path(self.names[sha])) for sha in chunk]
            with_torch(
                "retrieval.describe.chunk:extract_chunk",
                network,
                photographs,
                options,
                out=file,
                resources=self.resources.extraction(),
            )
        return holding(chunks, files)

    def find_features(self) -> None:
        options, limits = self.options.reconstruction.features, self.resources.features()

        def extract(chunk: list[str], out: Path) -> None:
            photographs = [(sha, self.copies[sha], self.outcomes[sha]) for sha in chunk]
            sift.extract_features(photographs, options, out, resources=limits)

        chunks = self.chunks(self.shas, self.resources.photographs_per_task)
        files = [self.new("features") for _ in chunks]
        self.each(extract, list(zip(chunks, files, strict=True)))
        self.local = holding(chunks, files)

    def match(self) -> None:
        options = self.options.reconstruction
        first = self.new("proposed_pairs")
        propose.propose_pairs(
            self.shas,
            descriptor_rows(self.proposed, self.shas),
            options.pairs,
            first,
            features=self.local,
            names=catalogue.read_names(self.catalogue),
            positions=catalogue.read_positions(self.catalogue),
            resources=self.resources.pairs(),
        )
        self.match_new([first])
        for _ in range(options.expansion.rounds):
            more = self.new("proposed_pairs")
            tried = self.attempts(self.made["proposed_pairs"][:-1])
            expansion.expand_pairs(self.shas, *tried, options.expansion, more)
            if not read_pairs(more):
                break
            self.match_new(self.made["proposed_pairs"])

    def match_new(self, proposals: Sequence[Path]) -> None:
        """Match the proposed pairs that are not matched yet."""
        options, limits = self.options.reconstruction.matching, self.resources.matching()
        wanted = chunk_order.near_together(pair for path in proposals for pair in read_pairs(path))
        chunks = self.chunks(
            [pair for pair in wanted if pair not in self.matched], self.resources.pairs_per_task
        )
        files = [self.new("matches") for _ in chunks]

        def work(chunk: list[Pair], out: Path) -> None:
            matching.match_pairs(chunk, self.local, options, out, resources=limits)

        self.each(work, list(zip(chunks, files, strict=True)))
        self.matched |= holding(chunks, files)

    def attempts(self, proposals: Sequence[Path]) -> matching.Attempts:
        wanted = {pair for path in proposals for pair in read_pairs(path)}
        return matching.read_attempts(self.made["matches"], wanted)

    def map_models(self) -> None:
        options, attempts = self.options.reconstruction, self.attempts(self.made["proposed_pairs"])
        found = self.new("clusters", ".json")
        clusters.find_clusters(self.shas, *attempts, options.clusters, found)
        units = [unit for cluster in cluster_files.read_clusters(found) for unit in cluster.units()]
        large = [unit for unit in units if len(unit.photographs) >= options.mapping.min_model_size]
        large.sort(key=lambda unit: (-len(unit.photographs), unit.name))
        folders = {unit.name: self.new("mapping", "") for unit in large}

        def work(unit: cluster_files.Cluster) -> None:
            out, limits = folders[unit.name], self.resources.mapping()
            sources = (self.local, self.matched, self.copies)
            mapping.map_cluster(unit, *sources, options.mapping, out, resources=limits)

        self.each(work, [(unit,) for unit in large])
        self.scene = self.new("scene")
        assembly.build_scene(self.catalogue, found, attempts, folders, options.scene, self.scene)

    def select(self) -> None:
        options, guard = self.options.selection.of_scene(), self.new("guard_pairs")
        scene = Scene.from_h5(self.scene, for_selection=True)
        rows = descriptor_rows(self.proposed, scene.photos.sha256.astype(str).tolist())
        stages.guard_pairs(scene, rows, options, guard)
        self.match_new([guard])
        self.chosen = self.new("training_set")
        with open_artifact(self.scene, "scene") as file:
            pixels = file.dataset("visibility/xy_px")
            stages.select_training_set(scene, self.attempts([guard]), options, self.chosen, pixels=pixels)

    def finetune(self) -> None:
        from retrieval.training.finetune import finetune

        self.network = self.made["proposal_network"][0]
        if self.options.network != self.options.reconstruction.network:
            self.network = self.new("network", ".safetensors")
            with_torch("retrieval.networks.make:make_network", self.options.network, out=self.network)
        self.images = images_of(self.chosen)
        limits = matching.MatchingResources(threads=self.resources.threads or self.resources.workers)
        scratch = self.folder / "work"
        scratch.mkdir()
        matcher = matching.ImageMatcher(self.images, self.local, self.options.reconstruction.matching, limits)
        finetune(
            self.chosen,
            self.network,
            self.source,
            self.options.training,
            out=self.new("finetune", ""),
            work_dir=scratch,
            resources=self.resources.training(),
            matcher=matcher if self.options.training.verify_negatives else None,
        )

    def whiten_and_evaluate(self) -> None:
        from retrieval.evaluation import evaluate
        from retrieval.whitening import whitening

        tuned = self.made["finetune"][0] / NETWORK_FILE
        found: list[evaluate.Configuration] = []
        training_set = hdf5.read(self.chosen, "training_set")
        for name, network in (("off-the-shelf", self.network), ("fine-tuned", tuned)):
            for scales, options in self.options.description.scale_sets().items():
                described = self.describe("descriptors", network, options)
                rows = descriptor_rows(described, self.images)
                files = self.describe_altered(network, options, training_set) if scales == "1" else {}
                more = altered_rows(training_set, files) if files else {}
                found.append(evaluate.Configuration(name, "raw", scales, rows, altered=more))
                for method in ("pcaw", "lw"):
                    out = self.new("whiten")
                    whitening.whiten(self.chosen, rows, self.options.whitening.of(method), out=out)
                    learnt = whitening.Whitening.load(out)
                    found.append(evaluate.Configuration(name, method, scales, rows, learnt, more))
        judging = Judging.of(self.made["finetune"][0] / TRAINING_FILE, self.made["whiten"][1])
        out = self.new("evaluation")
        evaluate.evaluate(self.chosen, found, self.options.evaluation, out=out, judging=judging)

    def describe_altered(
        self, network: Path, options: ExtractionOptions, training_set: Mapping[str, Any]
    ) -> dict[str, Path]:
        """Item of an altered query -> file with its descriptor."""
        asked = [q for split in SPLITS for *_, q in altered_queries(training_set, split)]
        chunks = self.chunks(asked, self.resources.photographs_per_task)
        files = [self.new("altered_descriptors") for _ in chunks]
        for chunk, file in zip(chunks, files, strict=True):
            with_torch(
                "retrieval.describe.altered:describe_chunk",
                network,
                [(q.item, self.source.path(self.names[q.sha256]), q.change, q.box) for q in chunk],
                options,
                out=file,
                input_digests={q.item: q.made_from(safetensors_sha256(network)) for q in chunk},
                resources=self.resources.extraction(),
            )
        return holding([[q.item for q in chunk] for chunk in chunks], files)

    @staticmethod
    def chunks(items: Sequence[Any], size: int) -> list[list[Any]]:
        return [list(items[start : start + size]) for start in range(0, len(items), size)]


def holding(chunks: Sequence[Sequence[Any]], places: Sequence[Path]) -> dict[Any, Path]:
    """Item -> the place of its chunk."""
    return {item: place for chunk, place in zip(chunks, places, strict=True) for item in chunk}


def images_of(training_set: Path) -> list[str]:
    """sha256 of a training set's images."""
    column: NDArray[np.bytes_] = hdf5.read(training_set, "training_set", ["images/sha256"])["images/sha256"]
    return [str(sha) for sha in column.astype(str)]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="The library's functions in a row, without Prefect.")
    parser.add_argument("photos", type=Path)
    parser.add_argument("folder", type=Path, help="new folder for the results")
    parser.add_argument("--config", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    asked = parser.parse_args(arguments)
    options, resources = load(asked.config, asked.set)
    asked.folder.mkdir(parents=True)
    run = PlainRun(asked.photos.absolute(), asked.folder.absolute(), options, resources)
    run.run()
    print(json.dumps({name: [str(path) for path in paths] for name, paths in run.made.items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
