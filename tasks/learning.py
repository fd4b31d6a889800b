"""Fine-tuning, whitening, evaluation."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from retrieval.describe.rows import images_of
from retrieval.evaluation import evaluate
from retrieval.evaluation.evaluate import Described, EvaluationOptions
from retrieval.training.finetune import finetune
from retrieval.training.options import STAGE as FINETUNE
from retrieval.training.options import (
    TRAINING_FILE,
    Matcher,
    TrainingOptions,
    TrainingProgress,
    TrainingResources,
)
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
from tasks.engine.caching import artifact_path, running, stage_task
from tasks.engine.chunks import Items, Part, file_of_items, items_input
from tasks.engine.progress import reporter
from tasks.engine.slots import held
from tasks.photographs import photo_source


@stage_task(FINETUNE, labels=("photos", "matching", "slot"))
def finetune_network(
    out: Path,
    options: TrainingOptions,
    training_set: ArtifactRef,
    network: ArtifactRef,
    photos: str,
    features: Part,
    matching: MatchingOptions,
    descriptors: Sequence[Items] = (),
    resources: TrainingResources | None = None,
    slot: str | None = None,
) -> dict[str, Any]:
    """Train; a killed training goes on from its last checkpoint, one with more epochs from its last epoch.

    features: with them suspicious negatives are matched, see `checked_by`; descriptors: of the
    network, at every size of `options.described_at`. slot: see tasks.engine.slots.
    """
    call = running()
    key = json_sha256(["checkpoints", stage_key(call.stage, options.resumable(), call.inputs)])
    report, pace = reporter("training"), Pace()

    def show(event: TrainingProgress) -> None:
        report(event.done, event.total, pace.sentence(event))

    with held(slot), call.store.lock(key, what="checkpoints of a training"):
        summary = finetune(
            artifact_path(training_set),
            network_file(artifact_path(network)),
            photo_source(call.store, photos),
            options,
            out=out,
            work_dir=call.store.work_dir(key),
            resources=resources,
            progress=show,
            matcher=matcher_of(artifact_path(training_set), features.refs, matching, resources),
            inputs=features.facts,
            descriptors={
                size: file_of_items(call.store, each.refs)
                for size, each in zip(options.described_at, descriptors, strict=True)
            },
        )
    return {"sidecar": {"summary": asdict(summary)}}


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
    training_set: Path,
    features: Sequence[ArtifactRef],
    matching: MatchingOptions,
    resources: TrainingResources | None,
) -> Matcher | None:
    """Inside a stage task: matches images of a training set; None without features."""
    if not features:
        return None
    store = running().store
    threads = (resources.threads if resources else None) or len(os.sched_getaffinity(0))
    return ImageMatcher(
        images_of(training_set),
        file_of_items(store, features),
        matching,
        MatchingResources(threads=threads),
    )


@stage_task(whitening.STAGE)
def learn_whitening(
    out: Path, options: WhiteningOptions, training_set: ArtifactRef, descriptors: Items
) -> None:
    """A whitening of descriptors: learnt on train, its shrinkage chosen on val."""
    call = running()
    files = file_of_items(call.store, descriptors.refs)
    whitening.whiten_files(artifact_path(training_set), files, options, out=out, inputs=call.inputs)


@dataclass(frozen=True)
class DescribedBy(Items):
    """Descriptors of photographs by a network at one set of scales, both by name.

    whitenings: learnt from these descriptors, by method.
    """

    network: str = field(kw_only=True)
    scales: str = field(kw_only=True)
    whitenings: Mapping[str, ArtifactRef] = field(default_factory=dict, kw_only=True)


@stage_task(evaluate.STAGE, labels=("sources",))
def evaluate_configurations(
    out: Path,
    options: EvaluationOptions,
    training_set: ArtifactRef,
    whitenings: list[ArtifactRef],
    described: list[DescribedBy],
    sources: list[str],
    altered: list[DescribedBy],
    finetune: ArtifactRef,
) -> None:
    """All networks and scales on the geometry benchmark, raw and by each of their whitenings, and what of it
    is used; altered: the same of altered queries, where harder rows are asked for."""
    call, configurations = running(), []
    harder = {(each.network, each.scales): file_of_items(call.store, each.refs) for each in altered}
    for each in described:
        files, more = file_of_items(call.store, each.refs), harder.get((each.network, each.scales), {})
        for method, ref in {"raw": None, **each.whitenings}.items():
            transform = artifact_path(ref) if ref else None
            configurations.append(Described(each.network, method, each.scales, files, transform, more))
    evaluate.evaluate_files(
        artifact_path(training_set),
        configurations,
        options,
        out=out,
        inputs=call.inputs,
        attributes={"pair_sources": sources},
        training=artifact_path(finetune) / TRAINING_FILE,
    )
