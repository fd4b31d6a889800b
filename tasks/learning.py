"""Fine-tuning, whitening, evaluation."""

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from retrieval import evaluation, finetuning, whitening
from retrieval.evaluation import Configuration, EvaluationOptions
from retrieval.finetuning import Matcher, TrainingOptions, TrainingProgress, TrainingResources
from retrieval.training_pace import Pace
from retrieval.whitening import Whitening, WhiteningOptions
from sfm.matching import STAGE as STAGE_OF_MATCHES
from sfm.matching import ImageMatcher, MatchingOptions, MatchingResources
from storage import hdf5
from storage.artifacts import ArtifactRef
from storage.digests import json_sha256
from storage.keys import stage_key
from storage.store import Store
from tasks.caching import artifact_path, publish, running, stage_task
from tasks.chunks import descriptor_rows, file_of_items, items_input
from tasks.describing import network_file
from tasks.photographs import photo_source
from tasks.progress import reporter
from tasks.slots import holding


@stage_task(finetuning.STAGE, labels=("photos", "features", "matching", "slot"))
def finetune_network(
    store: str,
    options: TrainingOptions,
    inputs: list[str],
    training_set: ArtifactRef,
    network: ArtifactRef,
    photos: str,
    features: list[ArtifactRef],
    matching: MatchingOptions,
    resources: TrainingResources | None = None,
    slot: str | None = None,
) -> ArtifactRef:
    """Train; a killed training goes on from its last checkpoint, one with more epochs from its last epoch.

    features: with them suspicious negatives are matched; `inputs` has what that depends on, see
    `checks_input`. slot: see tasks.slots.
    """
    call = running()
    key = json_sha256(["checkpoints", stage_key(call.stage, options.resumable(), call.inputs)])
    report = reporter("training")

    pace = Pace()

    def show(event: TrainingProgress) -> None:
        report(event.done, event.total, pace.sentence(event))

    def build(out: Path) -> dict[str, Any]:
        with call.store.lock(key, what="checkpoints of a training"):
            summary = finetuning.finetune(
                artifact_path(training_set),
                network_file(artifact_path(network)),
                photo_source(call.store, photos),
                options,
                out=out,
                work_dir=call.store.work_dir(key),
                resources=resources,
                progress=show,
                matcher=matcher_of(key, artifact_path(training_set), features, matching, resources),
                inputs=inputs,
            )
        return {"sidecar": {"summary": asdict(summary)}}

    return publish(holding(slot, build))


def checks_input(
    store: Store, features: list[ArtifactRef], training_set: ArtifactRef, matching: MatchingOptions
) -> list[str]:
    """What checks of negatives depend on: the features of the set's photographs, and how they are matched;
    [] without features."""
    if not features:
        return []
    return [
        stage_key(
            STAGE_OF_MATCHES, matching, [items_input(store, features, images_of(store.path(training_set)))]
        )
    ]


def matcher_of(
    key: str,
    training_set: Path,
    features: list[ArtifactRef],
    matching: MatchingOptions,
    resources: TrainingResources | None,
) -> Matcher | None:
    """Inside a stage task: matches images of a training set; None without features. key: of scratch space."""
    if not features:
        return None
    store = running().store
    threads = (resources.threads if resources else None) or len(os.sched_getaffinity(0))
    return ImageMatcher(
        images_of(training_set),
        file_of_items(store, features),
        matching,
        store.work_dir(key),
        MatchingResources(threads=threads),
    )


def images_of(training_set: Path) -> list[str]:
    """sha256 of a training set's images."""
    column = hdf5.read(training_set, "training_set", ["images/sha256"])["images/sha256"]
    return [str(sha) for sha in column.astype(str)]


@stage_task(whitening.STAGE, labels=("descriptors",))
def learn_whitening(
    store: str,
    options: WhiteningOptions,
    inputs: list[str],
    training_set: ArtifactRef,
    descriptors: list[ArtifactRef],
) -> ArtifactRef:
    """A whitening of descriptors: learnt on train, its shrinkage chosen on val."""
    opened = running().store

    def build(out: Path) -> None:
        path = artifact_path(training_set)
        rows = training_rows(opened, path, descriptors)
        whitening.whiten(path, rows, options, out=out, inputs=running().inputs)

    return publish(build)


@stage_task(evaluation.STAGE, labels=("configurations", "sources"))
def evaluate_configurations(
    store: str,
    options: EvaluationOptions,
    inputs: list[str],
    training_set: ArtifactRef,
    whitenings: list[ArtifactRef],
    configurations: list[dict[str, Any]],
    sources: list[str],
) -> ArtifactRef:
    """All configurations on the geometry benchmark.

    configurations: each with its network, whitening and scales (names), descriptors and transform.
    """
    opened = running().store

    def build(out: Path) -> None:
        path = artifact_path(training_set)
        rows: dict[tuple[str, str], Any] = {}
        found = []
        for each in configurations:
            name = (each["network"], each["scales"])
            if name not in rows:
                rows[name] = training_rows(opened, path, each["descriptors"])
            transform = Whitening.load(artifact_path(each["transform"])) if each["transform"] else None
            found.append(Configuration(name[0], each["whitening"], name[1], rows[name], transform))
        evaluation.evaluate(
            path, found, options, out=out, inputs=running().inputs, attributes={"pair_sources": sources}
        )

    return publish(build)


def training_rows(store: Store, training_set: Path, descriptors: Sequence[ArtifactRef]) -> Any:
    """[N, D] float32: descriptors in the order of a training set's images."""
    return descriptor_rows(file_of_items(store, list(descriptors)), images_of(training_set))
