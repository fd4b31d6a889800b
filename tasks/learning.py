"""Fine-tuning, whitening, evaluation."""

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from retrieval.describe.rows import images_of
from retrieval.evaluation import evaluate
from retrieval.evaluation.evaluate import Described, EvaluationOptions
from retrieval.training.finetune import finetune
from retrieval.training.options import STAGE as FINETUNE
from retrieval.training.options import Matcher, TrainingOptions, TrainingProgress, TrainingResources
from retrieval.training.pace import Pace
from retrieval.whitening import whitening
from retrieval.whitening.whitening import WhiteningOptions
from sfm.matching.match import STAGE as STAGE_OF_MATCHES
from sfm.matching.match import ImageMatcher, MatchingOptions, MatchingResources
from storage.files.digests import json_sha256
from storage.keys.artifacts import ArtifactRef
from storage.keys.keys import stage_key
from storage.store.store import Store
from storage.store.superseded import keys_by_older_code
from tasks.describing import network_file
from tasks.engine.caching import artifact_path, publish, running, stage_task
from tasks.engine.chunks import Part, file_of_items, items_input
from tasks.engine.progress import reporter
from tasks.engine.slots import holding
from tasks.photographs import photo_source


@stage_task(FINETUNE, labels=("photos", "matching", "slot"))
def finetune_network(
    store: str,
    options: TrainingOptions,
    training_set: ArtifactRef,
    network: ArtifactRef,
    photos: str,
    features: Part,
    matching: MatchingOptions,
    resources: TrainingResources | None = None,
    slot: str | None = None,
) -> ArtifactRef:
    """Train; a killed training goes on from its last checkpoint, one with more epochs from its last epoch.

    features: with them suspicious negatives are matched, see `checked_by`. slot: see tasks.engine.slots.
    """
    call = running()
    key = json_sha256(["checkpoints", stage_key(call.stage, options.resumable(), call.inputs)])
    report = reporter("training")

    pace = Pace()

    def show(event: TrainingProgress) -> None:
        report(event.done, event.total, pace.sentence(event))

    def build(out: Path) -> dict[str, Any]:
        with call.store.lock(key, what="checkpoints of a training"):
            summary = finetune(
                artifact_path(training_set),
                network_file(artifact_path(network)),
                photo_source(call.store, photos),
                options,
                out=out,
                work_dir=call.store.work_dir(key),
                resources=resources,
                progress=show,
                matcher=matcher_of(key, artifact_path(training_set), features.refs, matching, resources),
                inputs=features.facts,
            )
        return {"sidecar": {"summary": asdict(summary)}}

    return publish(holding(slot, build))


def checked_by(
    store: Store, features: list[ArtifactRef], training_set: ArtifactRef, matching: MatchingOptions
) -> Part:
    """Features by which negatives are checked. What counts of them are the photographs of the set, and how
    they are matched, by which code; nothing without features."""
    if not features:
        return Part([], [])
    inputs = [items_input(store, features, images_of(store.path(training_set)))]
    older = keys_by_older_code(store, STAGE_OF_MATCHES, matching, inputs)
    return Part(features, [stage_key(STAGE_OF_MATCHES, matching, inputs)], [[key] for key in older])


def matcher_of(
    key: str,
    training_set: Path,
    features: Sequence[ArtifactRef],
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
        files = file_of_items(opened, descriptors)
        whitening.whiten_files(artifact_path(training_set), files, options, out=out, inputs=running().inputs)

    return publish(build)


@stage_task(evaluate.STAGE, labels=("configurations", "sources"))
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
        described = [
            Described(
                each["network"],
                each["whitening"],
                each["scales"],
                file_of_items(opened, each["descriptors"]),
                artifact_path(each["transform"]) if each["transform"] else None,
            )
            for each in configurations
        ]
        evaluate.evaluate_files(
            artifact_path(training_set),
            described,
            options,
            out=out,
            inputs=running().inputs,
            attributes={"pair_sources": sources},
        )

    return publish(build)
