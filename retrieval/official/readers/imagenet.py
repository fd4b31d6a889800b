"""ImageNet-1K as it lies on disk: `train/CLASS/*.JPEG` and `val/CLASS/*.JPEG`, folders named alike."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from retrieval.benchmarks.imagenet import vote_places
from retrieval.official.readers import files
from retrieval.official.readers.common import Benchmark, Ids, ProtocolOptions, Ranking, Score, named_by_files

KS = (10, 20, 100, 200)
TEMPERATURE = 0.07


def read_imagenet(name: str, data: Path, options: ProtocolOptions, images: bool) -> Benchmark:
    """Queries: val; database: train; a query is right if its class wins the weighted vote of its neighbours.

    Raises MissingBenchmarkFile, InvalidBenchmarkFile.
    """
    root = files.root_of(data, ["imagenet"], "train")
    classes, train, train_labels = _images(root, "train")
    val_classes, val, val_labels = _images(root, "val")
    unknown = sorted(set(val_classes) - set(classes))
    if unknown:
        raise files.InvalidBenchmarkFile(f"'{root / 'val' / unknown[0]}' is a class that train does not have")
    number = {each: index for index, each in enumerate(classes)}
    labels = np.array([number[val_classes[label]] for label in val_labels], dtype=np.int64)
    ks = [k for k in KS if k <= len(train)] or [len(train)]
    members = [np.flatnonzero(train_labels == label).astype(np.int64) for label in range(len(classes))]

    def score(ranking: Ranking) -> Score:
        if ranking.scores is None:
            raise files.InvalidBenchmarkFile("imagenet votes by similarity; ranks alone cannot be scored")
        places = vote_places(ranking.ranks, ranking.scores, train_labels, labels, ks, TEMPERATURE)
        found = Score()
        for k, place in places.items():
            values = {f"top-{top}": float((place < top).mean()) for top in (1, 5)}
            first = {f"top-1 k={k}": (place < 1).astype(np.float64)}
            found.add(f"weighted k-NN, k={k}", values, len(labels), first)
        return found

    return Benchmark(
        name=name,
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
        raise files.MissingBenchmarkFile(f"imagenet: '{folder}' is missing; expected {split}/CLASS/*.JPEG")
    classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    found: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        names = sorted(filter(_is_image, os.listdir(folder / name)))
        found += [f"{split}/{name}/{file}" for file in names]
        labels += [label] * len(names)
    if not found:
        raise files.MissingBenchmarkFile(
            f"imagenet: no images in '{folder}/CLASS/'; sort them into class folders (a flat val/ "
            "says nothing about classes)"
        )
    return classes, found, np.array(labels, dtype=np.int64)


def _is_image(name: str) -> bool:
    return name.lower().endswith(files.IMAGE_ENDINGS) and not name.startswith(".")


PLACE = 5
READS = {"imagenet": read_imagenet}
