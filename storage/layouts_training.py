"""Layouts of selection and training: training_set, training."""

from __future__ import annotations

from typing import Any

from storage.schemas import Dataset, Layout

SPLITS = (0, 1, 2)
_SPLIT = "0 train, 1 val, 2 test"


def _images_and_positives() -> tuple[Dataset, ...]:
    return (
        Dataset("images/name", ("N",), "str", "path below the root of the photographs", unique=True),
        Dataset("images/sha256", ("N",), "S64", "sha256 of the file's bytes, hexadecimal", unique=True),
        Dataset("images/cluster", ("N",), "int64", "cluster in the scene", minimum=0),
        Dataset("images/model", ("N",), "int64", "model in the scene; -1 = none", minimum=0, none=True),
        Dataset("images/split", ("N",), "int8", f"split of its cluster: {_SPLIT}", values=SPLITS),
        Dataset("images/registered", ("N",), "bool", "whether a model holds it"),
        Dataset("queries/image", ("Q",), "int64", "image that is a query", index="N", unique=True),
        Dataset("queries/split", ("Q",), "int8", _SPLIT, values=SPLITS),
        Dataset("candidates/indptr", ("Q+1",), "int64", "where each query's candidates begin", csr="C"),
        Dataset(
            "candidates/image",
            ("C",),
            "int64",
            "image that sees points of the query",
            index="N",
            rows="unique",
        ),
        Dataset("candidates/shared_points", ("C",), "int64", "3D points that both see", minimum=0),
        Dataset(
            "candidates/overlap",
            ("C",),
            "float32",
            "shared points / points of the query",
            minimum=0,
            maximum=1,
        ),
        Dataset(
            "candidates/scale_change",
            ("C",),
            "float32",
            "ratio of the scales, at least 1",
            nan=True,
            minimum=0,
        ),
        Dataset(
            "candidates/center_distance_rank",
            ("C",),
            "int64",
            "rank by distance of the centres, 0 = nearest",
            minimum=0,
        ),
        Dataset("positives/m1_pool/indptr", ("Q+1",), "int64", "where each query's pool begins", csr="A"),
        Dataset(
            "positives/m1_pool/image",
            ("A",),
            "int64",
            "images with the nearest centres",
            index="N",
            rows="unique",
        ),
        Dataset(
            "positives/m2", ("Q",), "int64", "image with most shared points; -1 = none", index="N", none=True
        ),
        Dataset("positives/m3/indptr", ("Q+1",), "int64", "where each query's choices begin", csr="B"),
        Dataset(
            "positives/m3/image", ("B",), "int64", "images to draw from at random", index="N", rows="unique"
        ),
        Dataset(
            "negatives/image",
            ("V",),
            "int64",
            "photograph without verified pairs, or of a cluster that may match",
            index="N",
        ),
        Dataset("negatives/cluster", ("V",), "int64", "cluster of the query", minimum=0),
        Dataset(
            "negatives/max_inliers",
            ("V",),
            "int64",
            "most raw inliers with that cluster; -1 = never matched",
            minimum=0,
            none=True,
        ),
        Dataset(
            "negatives/allowed", ("V",), "bool", "whether it may be a negative of that cluster's queries"
        ),
        Dataset(
            "negatives/excluded/indptr",
            ("Q+1",),
            "int64",
            "where each query's excluded images begin",
            optional=True,
            csr="X",
        ),
        Dataset(
            "negatives/excluded/image",
            ("X",),
            "int64",
            "image of another cluster that is no negative of the query",
            optional=True,
            index="N",
            rows="increasing",
        ),
    )


def _dropped() -> tuple[Dataset, ...]:
    """Clusters that a decontamination took out; one row each, with the pair that gave it away."""
    columns = (
        ("cluster", "int64", "cluster in the scene; none of its photographs is in images"),
        ("photographs", "int64", "photographs of the cluster"),
        ("split", "int8", f"split that it was in: {_SPLIT}"),
        ("benchmark_image", "str", "image of the benchmark, path below its folder"),
        ("photograph", "str", "photograph of the cluster that shows the same, path below its root"),
        ("inliers", "int64", "matches of the two that agree with one geometry; -1 = the same file"),
        ("similarity", "float32", "inner product of the descriptors of the two"),
    )
    limits: dict[str, Any] = {
        "cluster": {"minimum": 0, "unique": True},
        "photographs": {"minimum": 1},
        "split": {"values": SPLITS},
        "inliers": {"minimum": 0, "none": True},
    }
    return tuple(
        Dataset(f"dropped/{name}", ("Z",), dtype, meaning, optional=True, **limits.get(name, {}))
        for name, dtype, meaning in columns
    )


def _benchmark(split: str) -> tuple[Dataset, ...]:
    at, tag = f"benchmark/{split}", split.upper()
    labels = {
        "easy": "overlap at least 0.2 and scale change at most 1.5",
        "hard": "not easy, at least 15 shared points",
        "junk": "neither right nor wrong: the query, near duplicates, the rest of the cluster",
    }
    rows = [
        Dataset(
            f"{at}/queries", (f"Q_{tag}",), "int64", f"registered images of {split}", index="N", unique=True
        ),
        Dataset(f"{at}/database", (f"D_{tag}",), "int64", f"all images of {split}", index="N", unique=True),
    ]
    for label, meaning in labels.items():
        size = f"{label}_{tag}".upper()
        rows += [
            Dataset(
                f"{at}/{label}/indptr",
                (f"Q_{tag}+1",),
                "int64",
                f"where each query's {label} images begin",
                csr=size,
            ),
            Dataset(f"{at}/{label}/image", (size,), "int64", meaning, index="N", rows="increasing"),
        ]
    return tuple(rows)


def _benchmark_groups(split: str) -> dict[str, str]:
    at = f"benchmark/{split}"
    labels = {
        f"{at}/{label}": f"{label} images of every query (CSR over queries)"
        for label in ("easy", "hard", "junk")
    }
    return {at: f"labels of {split}: from its 3D models, or from a given list", **labels}


TRAINING_SET = Layout(
    name="training_set",
    version=1,
    description="Queries, positives, guarded negatives and the geometry benchmark, selected from a scene.",
    groups={
        "images": "accepted photographs; every other index of this file points here",
        "queries": "one row per query",
        "candidates": "images that share 3D points with each query (CSR over queries)",
        "positives": "three strategies to choose a positive",
        "positives/m1_pool": "m1: the nearest descriptor of these is the positive (CSR over queries)",
        "positives/m3": "m3: one of these at random is the positive (CSR over queries)",
        "negatives": "verdicts: photographs without verified pairs need an allowed one, "
        "refused ones never serve",
        "negatives/excluded": "what no query may have beside its own cluster (CSR over queries); where it is "
        "given it is complete, and photographs that are alone in their cluster need no verdict",
        "dropped": "clusters that show what a benchmark shows, taken out of this file, with the evidence",
        "benchmark": "geometry benchmark: labels that no person made",
        **_benchmark_groups("val"),
        **_benchmark_groups("test"),
    },
    datasets=(*_images_and_positives(), *_dropped(), *_benchmark("val"), *_benchmark("test")),
)

TRAINING = Layout(
    name="training",
    version=1,
    description="What happened in a training, epoch by epoch.",
    groups={
        "epochs": "one row per epoch",
        "mined": "one row per tuple and epoch: which hard negatives were mined",
        "checks": "negatives as near as the query's positives: what matching them with its cluster found",
        "may_match": "clusters that turned out to show one place: no negatives of each other since",
        "descriptor_shift": "how far the training moved each photograph's descriptor",
        "warnings": "what the training could not do as asked",
    },
    attributes={"seconds_*": "duration of each part, per epoch"},
    datasets=(
        Dataset(
            "epochs/epoch",
            ("E",),
            "int64",
            "number of the epoch, from 1 (0 = before training)",
            minimum=0,
            unique=True,
        ),
        Dataset("epochs/loss_train", ("E",), "float64", "mean loss of the training tuples", nan=True),
        Dataset(
            "epochs/loss_val", ("E",), "float64", "mean loss of the validation tuples; nan = none", nan=True
        ),
        Dataset(
            "epochs/map_val",
            ("E",),
            "float64",
            "mAP on the val benchmark; nan = none",
            nan=True,
            minimum=0,
            maximum=1,
        ),
        Dataset("epochs/learning_rate", ("E",), "float64", "learning rate of the backbone", minimum=0),
        Dataset(
            "epochs/gem_p",
            ("E",),
            "float64",
            "exponent of GeM (mean where per channel); nan = other pooling",
            nan=True,
        ),
        Dataset(
            "epochs/mean_negative_distance",
            ("E",),
            "float64",
            "query to mined negatives; nan = none",
            nan=True,
            minimum=0,
        ),
        Dataset("mined/epoch", ("T",), "int64", "epoch of the tuple", minimum=0),
        Dataset("mined/query", ("T",), "int64", "image of the training set", minimum=0),
        Dataset("mined/positive", ("T",), "int64", "image of the training set", minimum=0),
        Dataset(
            "mined/negatives",
            ("T", "J"),
            "int64",
            "images of the training set, hardest first; -1 = none",
            minimum=0,
            none=True,
        ),
        Dataset("checks/epoch", ("V",), "int64", "epoch of the check, 0 = before training", minimum=0),
        Dataset("checks/image", ("V",), "int64", "the negative, image of the training set", minimum=0),
        Dataset("checks/cluster", ("V",), "int64", "cluster of the query", minimum=0),
        Dataset("checks/max_inliers", ("V",), "int64", "most inliers with one of its photographs", minimum=0),
        Dataset("may_match/first", ("M",), "int64", "cluster of the training set", minimum=0),
        Dataset("may_match/second", ("M",), "int64", "cluster of the training set", minimum=0),
        Dataset("may_match/inliers", ("M",), "int64", "most inliers between the two", minimum=0),
        Dataset("best_epoch", (), "int64", "epoch whose network is kept", minimum=0),
        Dataset(
            "descriptor_shift/image", ("S",), "int64", "image of the training set", minimum=0, unique=True
        ),
        Dataset(
            "descriptor_shift/cosine_distance",
            ("S",),
            "float32",
            "before against after training",
            minimum=-1e-3,
            maximum=2.001,
        ),
        Dataset("warnings/text", ("W",), "str", "one sentence each", optional=True),
    ),
)

LAYOUTS = (TRAINING_SET, TRAINING)
