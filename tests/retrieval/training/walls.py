"""Photographs of painted walls, a training set of them, and a training that takes seconds."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from retrieval.training.finetune import finetune
from retrieval.training.options import TRAINING_FILE, TrainingOptions, TrainingResources
from storage.hdf5 import file as hdf5

VIEWS = 4
CLUSTERS = {0: 6, 1: 3, 2: 1}  # split -> clusters with views
RESOURCES = TrainingResources(device="cpu", threads=1, loader_threads=0)
OPTIONS = TrainingOptions(image_size=48, epochs=2, queries_per_epoch=8, learning_rate=1e-4, negatives=3)


class Folder:
    """Photographs of a plain folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.opened: list[str] = []

    def path(self, name: str) -> Path:
        self.opened.append(name)
        return self.root / name


def paint(root: Path) -> list[tuple[str, int, int]]:
    """Views of random walls, and three lonely ones: (name, cluster, split) of each."""
    generator = np.random.default_rng(0)
    rows: list[tuple[str, int, int]] = []
    cluster = 0
    for split, count in CLUSTERS.items():
        for _ in range(count):
            wall = generator.integers(0, 256, (10, 10, 3), dtype=np.uint8)
            for view in range(VIEWS):
                top, left = generator.integers(0, 3, 2)
                crop = Image.fromarray(wall[top : top + 8, left : left + 8]).resize(
                    (60, 45), Image.Resampling.BICUBIC
                )
                rows.append((f"c{cluster}/v{view}.png", cluster, split))
                (root / f"c{cluster}").mkdir(exist_ok=True)
                crop.save(root / rows[-1][0])
            cluster += 1
    for lonely in range(3):
        noise = generator.integers(0, 256, (45, 60, 3), dtype=np.uint8)
        rows.append((f"lonely{lonely}.png", cluster + lonely, 0))
        Image.fromarray(noise).save(root / rows[-1][0])
    return rows


def csr(rows: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    flat = [item for row in rows for item in row]
    return np.cumsum([0, *map(len, rows)]).astype(np.int64), np.array(flat, dtype=np.int64)


def training_set(rows: list[tuple[str, int, int]]) -> dict[str, object]:
    """All views of a wall are queries and positives of each other; lonely photograph 0 may be anyone's
    negative."""
    clusters = np.array([cluster for _, cluster, _ in rows], dtype=np.int64)
    splits = np.array([split for _, _, split in rows], dtype=np.int8)
    names = [name for name, _, _ in rows]
    single = np.bincount(clusters)[clusters] == 1
    queries = np.flatnonzero(~single)
    others = [[int(i) for i in np.flatnonzero(clusters == clusters[q]) if i != q] for q in queries]
    indptr, image = csr(others)
    lonely = np.flatnonzero(single)
    train_clusters = np.unique(clusters[(splits == 0) & ~single])
    verdicts = [(photo, cluster, photo == lonely[0]) for photo in lonely for cluster in train_clusters]
    arrays: dict[str, object] = {
        "images/name": names,
        "images/sha256": np.array([f"{i:064x}".encode() for i in range(len(rows))], dtype="S64"),
        "images/cluster": clusters,
        "images/model": np.where(single, -1, clusters),
        "images/split": splits,
        "images/registered": ~single,
        "queries/image": queries,
        "queries/split": splits[queries],
        "candidates/indptr": indptr,
        "candidates/image": image,
        "candidates/shared_points": np.full(len(image), 100, dtype=np.int64),
        "candidates/overlap": np.full(len(image), 0.5, dtype=np.float32),
        "candidates/scale_change": np.ones(len(image), dtype=np.float32),
        "candidates/center_distance_rank": np.zeros(len(image), dtype=np.int64),
        "positives/m1_pool/indptr": indptr,
        "positives/m1_pool/image": image,
        "positives/m2": np.array([row[0] for row in others], dtype=np.int64),
        "positives/m3/indptr": indptr,
        "positives/m3/image": image,
        "negatives/image": np.array([photo for photo, _, _ in verdicts], dtype=np.int64),
        "negatives/cluster": np.array([cluster for _, cluster, _ in verdicts], dtype=np.int64),
        "negatives/max_inliers": np.array([0 if ok else 9 for _, _, ok in verdicts], dtype=np.int64),
        "negatives/allowed": np.array([ok for _, _, ok in verdicts], dtype=bool),
    }
    for split, number in (("val", 1), ("test", 2)):
        own = [q for q in queries if splits[q] == number]
        labels = {
            "easy": [others[int(np.flatnonzero(queries == q)[0])] for q in own],
            "hard": [[] for _ in own],
            "junk": [[int(q)] for q in own],
        }
        arrays[f"benchmark/{split}/queries"] = np.array(own, dtype=np.int64)
        arrays[f"benchmark/{split}/database"] = np.flatnonzero(splits == number)
        for label, lists in labels.items():
            arrays[f"benchmark/{split}/{label}/indptr"], arrays[f"benchmark/{split}/{label}/image"] = csr(
                lists
            )
    return arrays


class Killed(BaseException):
    """What ends a training in a test."""


def train(
    world: Path,
    out: Path,
    options: TrainingOptions = OPTIONS,
    work: str = "work",
    progress=None,
    matcher=None,
    resources: TrainingResources = RESOURCES,
):
    return finetune(
        world / "set.h5",
        world / "network.safetensors",
        Folder(world / "photos"),
        options,
        out=out / "out",
        work_dir=out / work,
        resources=resources,
        progress=progress,
        matcher=matcher,
    )


def history(folder: Path) -> dict[str, np.ndarray]:
    return hdf5.read(folder / "out" / TRAINING_FILE, "training")


def with_matches(world: Path, folder: Path, pairs: Sequence[tuple[int, int, int]]) -> Path:
    """The world with pairs (image, image, inliers) that matching verified, in a folder of its own."""
    names = ("matched/first", "matched/second", "matched/inliers")
    matched = dict(zip(names, np.array(pairs, dtype=np.int64).reshape(-1, 3).T, strict=True))
    arrays = hdf5.read(world / "set.h5", "training_set")
    folder.mkdir()
    hdf5.write(folder / "set.h5", "training_set", arrays | matched, stage="select", options={}, inputs=[])
    for name in ("photos", "network.safetensors"):
        (folder / name).symlink_to(world / name)
    return folder
