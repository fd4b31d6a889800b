"""ImageNet-1K as it lies on disk: `train/CLASS/*.JPEG` and `val/CLASS/*.JPEG`, folders named alike."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from retrieval.benchmarks.imagenet import vote_places
from retrieval.official.readers.common import (
    IMAGE_ENDINGS,
    Benchmark,
    Ids,
    InvalidBenchmarkFile,
    MissingBenchmarkFile,
    Ranking,
    Read,
    Score,
    ScoreRow,
    benchmark_root,
    named_by_files,
)

KS = (10, 20, 100, 200)
TEMPERATURE = 0.07


def read_imagenet(data: Path) -> Benchmark:
    """Queries: val; database: train; a query is right if its class wins the weighted vote of its neighbours.

    Raises MissingBenchmarkFile, InvalidBenchmarkFile.
    """
    root = benchmark_root(data, ["imagenet"], "train")
    classes, train, train_labels = _images(root, "train")
    val_classes, val, val_labels = _images(root, "val")
    unknown = sorted(set(val_classes) - set(classes))
    if unknown:
        raise InvalidBenchmarkFile(f"'{root / 'val' / unknown[0]}' is a class that train does not have")
    number = {name: index for index, name in enumerate(classes)}
    labels = np.array([number[val_classes[label]] for label in val_labels], dtype=np.int64)
    ks = [k for k in KS if k <= len(train)] or [len(train)]
    members = [np.flatnonzero(train_labels == label).astype(np.int64) for label in range(len(classes))]

    def score(ranking: Ranking) -> Score:
        if ranking.scores is None:
            raise InvalidBenchmarkFile("imagenet votes by similarity; ranks alone cannot be scored")
        places = vote_places(ranking.ranks, ranking.scores, train_labels, labels, ks, TEMPERATURE)
        rows = [
            ScoreRow(f"weighted k-NN, k={k}", metric, float((place < top).mean()), len(labels))
            for k, place in places.items()
            for metric, top in (("top-1", 1), ("top-5", 5))
        ]
        return Score(
            tuple(rows), {f"top-1 k={k}": (place < 1).astype(np.float64) for k, place in places.items()}
        )

    return Benchmark(
        name="imagenet",
        root=root,
        **named_by_files(val, train),
        positives=tuple(members[label] for label in labels.tolist()),
        score=score,
        depth=max(ks),
        labels=(train_labels, labels),
    )


def _images(root: Path, split: str) -> tuple[list[str], list[str], Ids]:
    """(classes, files below the root, label of each) of a split; classes and files sorted."""
    folder = root / split
    if not folder.is_dir():
        raise MissingBenchmarkFile(f"imagenet: '{folder}' is missing; expected {split}/CLASS/*.JPEG")
    with os.scandir(folder) as entries:
        classes = sorted(entry.name for entry in entries if entry.is_dir())
    files: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = sorted(_names(folder / name))
        files += [f"{split}/{name}/{file}" for file in found]
        labels += [label] * len(found)
    if not files:
        raise MissingBenchmarkFile(
            f"imagenet: no images in '{folder}/CLASS/'; sort them into class folders (a flat val/ "
            "says nothing about classes)"
        )
    return classes, files, np.array(labels, dtype=np.int64)


def _names(folder: Path) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.lower().endswith(IMAGE_ENDINGS) and not entry.name.startswith("."):
                yield entry.name


PLACE = 5
READS: dict[str, Read] = {"imagenet": lambda name, data, options, images: read_imagenet(data)}
