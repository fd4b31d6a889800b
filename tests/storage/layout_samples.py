"""Small valid content for every layout, made by hand: tests write it, damage it and look for the damage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from storage.hdf5 import file as hdf5
from storage.schemas.registry import all_layouts

SHA = [f"{value:064x}" for value in range(1, 7)]
NAMES = ["a b/ü.jpg", "b\n.jpg", "c.jpg", "d.jpg"]


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def photos() -> dict[str, Any]:
    return {
        "photos/name": NAMES,
        "photos/sha256": [SHA[0], SHA[1], SHA[0], SHA[2]],
        "photos/width": ints(640, 480, 640, 0),
        "photos/height": ints(480, 640, 480, 0),
        "photos/orientation": ints(1, 6, 1, 1),
        "photos/working_width": ints(640, 640, 640, 0),
        "photos/working_height": ints(480, 480, 480, 0),
        "photos/status": ["ok", "ok", "duplicate", "rejected"],
        "photos/reason": ["", "", "same bytes as a b/ü.jpg", "truncated; export it again"],
        "photos/alias_of": ints(-1, -1, 0, -1),
        "photos/focal_prior_px": np.array([500.0, np.nan, 500.0, np.nan]),
    }


def scene() -> dict[str, Any]:
    """Two cameras in one model, three points: camera 0 sees 0 and 2, camera 1 sees 0, 1 and 2."""
    pose = np.tile(np.eye(3, 4), (2, 1, 1))
    pose[1, 0, 3] = -1  # its centre is (1, 0, 0)
    return photos() | {
        "photos/cluster": ints(0, 0, -1, -1),
        "photos/model": ints(0, 0, -1, -1),
        "models/cluster": ints(0),
        "models/num_photos": ints(2),
        "models/num_points": ints(3),
        "models/mean_reprojection_error_px": np.array([0.5]),
        "cameras/photo": ints(0, 1),
        "cameras/model": ints(0, 0),
        "cameras/center_in_world": np.array([[0.0, 0, 0], [1, 0, 0]]),
        "cameras/cam_from_world": pose,
        "cameras/focal_px": np.array([500.0, 510]),
        "cameras/colmap_model": ["SIMPLE_RADIAL", "PINHOLE"],
        "cameras/params/indptr": ints(0, 4, 8),
        "cameras/params/value": np.arange(8.0),
        "visibility/indptr": ints(0, 2, 5),
        "visibility/point": ints(0, 2, 0, 1, 2),
        "visibility/xy_px": np.arange(10.0).reshape(5, 2),
        "visibility/keypoint": ints(3, 4, 0, 1, 2),
        "visibility/depth": np.ones(5, np.float32),
        "points/xyz": np.arange(9.0).reshape(3, 3),
        "points/rgb": np.arange(9, dtype=np.uint8).reshape(3, 3),
        "points/error_px": np.array([0.1, 0.2, 0.3]),
        "points/model": ints(0, 0, 0),
        "pairs/first": ints(0),
        "pairs/second": ints(1),
        "pairs/inliers": ints(20),
        "attempts/first": ints(0, 0, 1),
        "attempts/second": ints(1, 3, 3),
        "attempts/inliers": ints(20, 0, 3),
    }


def training_set() -> dict[str, Any]:
    """Three train images (0, 1 of cluster 0; 2 alone), one val image, no test image."""
    arrays: dict[str, Any] = {
        "images/name": NAMES,
        "images/sha256": SHA[:4],
        "images/cluster": ints(0, 0, 1, 2),
        "images/model": ints(0, 0, -1, 1),
        "images/split": np.array([0, 0, 0, 1], np.int8),
        "images/registered": np.array([True, True, False, True]),
        "queries/image": ints(0, 1),
        "queries/split": np.array([0, 0], np.int8),
        "candidates/indptr": ints(0, 1, 2),
        "candidates/image": ints(1, 0),
        "candidates/shared_points": ints(12, 12),
        "candidates/overlap": np.array([0.5, 0.25], np.float32),
        "candidates/scale_change": np.array([1.1, 1.1], np.float32),
        "candidates/center_distance_rank": ints(0, 0),
        "positives/m1_pool/indptr": ints(0, 1, 2),
        "positives/m1_pool/image": ints(1, 0),
        "positives/m2": ints(1, -1),
        "positives/m3/indptr": ints(0, 1, 1),
        "positives/m3/image": ints(1),
        "negatives/image": ints(2),
        "negatives/cluster": ints(0),
        "negatives/max_inliers": ints(3),
        "negatives/allowed": np.array([True]),
        "matched/first": ints(0),
        "matched/second": ints(1),
        "matched/inliers": ints(11),
    }
    for split, images in (("val", ints(3)), ("test", ints())):
        at = f"benchmark/{split}"
        arrays |= {f"{at}/queries": images, f"{at}/database": images}
        for label in ("easy", "hard", "junk"):
            content = images if label == "junk" else ints()
            arrays[f"{at}/{label}/image"] = content
            arrays[f"{at}/{label}/indptr"] = np.r_[0, np.full(len(images), len(content))].astype(np.int64)
        arrays[f"harder/{split}/box"] = np.full((len(images), 4), np.nan, np.float32)
    return arrays


def training() -> dict[str, Any]:
    return {
        "epochs/epoch": ints(1, 2),
        "epochs/loss_train": np.array([0.5, 0.25]),
        "epochs/loss_val": np.array([np.nan, 0.3]),
        "epochs/map_val": np.array([0.75, 0.8]),
        "epochs/val_average_precision": np.array([[0.5, 1.0, np.nan], [0.6, 1.0, np.nan]]),
        "epochs/learning_rate": np.array([1e-6, 9e-7]),
        "epochs/gem_p": np.array([3.0, 2.9]),
        "epochs/mean_negative_distance": np.array([0.9, 1.0]),
        "mined/epoch": ints(1, 2),
        "mined/query": ints(0, 0),
        "mined/positive": ints(1, 1),
        "mined/further_positives": np.array([[4], [1]]),
        "mined/negatives": np.array([[2, 3], [3, -1]]),
        "blends/share": np.array([0.5, 0.0]),
        "blends/map_val": np.array([0.9, np.nan]),
        "blends/kept": 0.5,
        "checks/epoch": ints(1),
        "checks/image": ints(3),
        "checks/cluster": ints(0),
        "checks/max_inliers": ints(12),
        "may_match/first": ints(0),
        "may_match/second": ints(2),
        "may_match/inliers": ints(12),
        "best_epoch": 2,
        "descriptor_shift/image": ints(0, 1),
        "descriptor_shift/cosine_distance": np.array([0.1, 0.2], np.float32),
        "warnings/text": ["training.negatives lowered from 5 to 2: 3 other clusters"],
    }


def evaluation() -> dict[str, Any]:
    return {
        "configurations/name": ["raw-easy", "raw-hard"],
        "configurations/network": ["off-the-shelf", "off-the-shelf"],
        "configurations/whitening": ["raw", "raw"],
        "configurations/scales": ["1", "1"],
        "configurations/protocol": ["easy", "hard"],
        "configurations/ranking": ["raw", "raw"],
        "configurations/map": np.array([0.5, np.nan]),
        "configurations/map_low": np.array([0.4, np.nan]),
        "configurations/map_high": np.array([0.6, np.nan]),
        "configurations/map_clusters": np.array([0.5, np.nan]),
        "queries/name": ["q"],
        "database/name": ["x", "y", "z"],
        "ranks/raw": np.array([[2, 0, 1]]),
        "scores/raw": np.array([[0.9, 0.5, 0.1]], np.float32),
        "average_precisions/raw-easy": np.array([0.5]),
        "average_precisions/raw-hard": np.array([np.nan]),
        "harder/network": ["off-the-shelf", "off-the-shelf"],
        "harder/whitening": ["raw", "raw"],
        "harder/scales": ["1", "1"],
        "harder/change": ["half", "dark"],
        "harder/val/query": [],
        "harder/val/cluster": ints(),
        "harder/val/average_precision": np.empty((2, 0)),
        "harder/test/query": ["q", "r"],
        "harder/test/cluster": ints(0, 3),
        "harder/test/average_precision": np.array([[0.5, np.nan], [0.25, np.nan]]),
        "verdict/candidate": ["as it was", "only whiten", "fine-tuned"],
        "verdict/network": ["off-the-shelf", "off-the-shelf", "fine-tuned"],
        "verdict/whitening": ["raw", "lw", "raw"],
        "verdict/against": ["", "as it was", "only whiten"],
        "verdict/estimate": np.array([0.5, 0.75, 0.625]),
        "verdict/gain": np.array([np.nan, 0.25, -0.125]),
        "verdict/gain_low": np.array([np.nan, 0.125, -0.25]),
        "verdict/gain_high": np.array([np.nan, 0.375, 0.0]),
        "verdict/chosen": 1,
        "verdict/sentence": ["only whiten: it gains"],
    }


def benchmark() -> dict[str, Any]:
    return {
        "rows/protocol": ["medium", "hard"],
        "rows/metric": ["mAP", "mAP"],
        "rows/value": np.array([0.5, np.nan]),
        "rows/num_queries": ints(1, 0),
        "queries/name": ["q", "r"],
        "database/name": ["x", "y"],
        "distractors/position": ints(2),
        "distractors/name": ["far/z.jpg"],
        "ranks": np.array([[2, 0, 1], [1, -1, -1]]),
        "scores": np.array([[0.9, 0.5, 0.1], [0.4, 0, 0]], np.float32),
        "per_query/AP medium": np.array([0.5, np.nan]),
        "per_query/AP hard": np.array([np.nan, np.nan]),
    }


def features() -> dict[str, Any]:
    arrays: dict[str, Any] = {}
    for sha, count in ((SHA[0], 3), (SHA[1], 0)):
        arrays |= {
            f"{sha}/keypoints": np.arange(2.0 * count, dtype=np.float32).reshape(count, 2),
            f"{sha}/descriptors": np.arange(4 * count, dtype=np.uint8).reshape(4, count),
            f"{sha}/scores": np.ones(count, np.float32),
            f"{sha}/image_size": ints(640, 480),
        }
    return arrays


def matches() -> dict[str, Any]:
    pair = f"{SHA[0]}/{SHA[1]}"
    return {
        "attempts/first": [SHA[0], SHA[0]],
        "attempts/second": [SHA[1], SHA[2]],
        "attempts/inliers": ints(2, 0),
        f"{pair}/matches0": np.array([1, -1, 0], np.int32),
        f"{pair}/matching_scores0": np.array([1, 0, 1], np.float32),
    }


def pairs() -> dict[str, Any]:
    return {
        "photos/sha256": SHA[:4],
        "pairs/first": ints(0, 1),
        "pairs/second": ints(2, 3),
        "pairs/inliers": ints(20, 17),
        "pairs/source": ["descriptors", "descriptors+vocabulary"],
    }


def whitening() -> dict[str, Any]:
    return {
        "mean": np.array([0.5, 0.25]),
        "projection": np.array([[1.0, 0], [0, 2]]),
        "eigenvalues": np.array([2.0, 1]),
        "shrinkage_grid/value": np.array([0.0, 0.1]),
        "shrinkage_grid/map_val": np.array([0.5, np.nan]),
    }


def scan() -> dict[str, Any]:
    return {
        "photos/name": NAMES,
        "photos/sha256": [SHA[0], SHA[1], SHA[2], ""],
        "photos/bytes": ints(10, 20, 30, 0),
        "photos/status": ["ok", "ok", "ok", "rejected"],
        "photos/reason": ["", "", "", "cannot be read: Permission denied"],
    }


def descriptors() -> dict[str, Any]:
    return {f"{sha}/global_descriptor": np.array([0.6, 0.8], np.float32) for sha in SHA[:2]}


def search_index() -> dict[str, Any]:
    return {
        "photos/name": NAMES[:2],
        "photos/sha256": SHA[:2],
        "descriptors": np.array([[0.6, 0.8, 0.0], [0.0, 1.0, 0.0]], np.float32),
        "faiss": np.arange(5, dtype=np.uint8),
        "whitening/mean": np.zeros(4),
        "whitening/projection": np.eye(3, 4),
        "recall/depth": ints(10, 100),
        "recall/value": np.array([0.5, 1.0]),
    }


SAMPLES = {
    "scan": scan,
    "catalogue": photos,
    "descriptors": descriptors,
    "features": features,
    "pairs": pairs,
    "matches": matches,
    "scene": scene,
    "training_set": training_set,
    "training": training,
    "whitening": whitening,
    "evaluation": evaluation,
    "benchmark": benchmark,
    "search_index": search_index,
}


def write_sample(path: Path, name: str, **changes: Any) -> Path:
    """Write the sample of a layout with some datasets replaced (None = left out)."""
    arrays = SAMPLES[name]() | changes
    kept = {key: value for key, value in arrays.items() if value is not None}
    hdf5.write(path, name, kept, stage=name, options={"seed": 0}, inputs=[SHA[5]])
    return path


GOLDEN = Path(__file__).parent / "golden"


def golden_path(name: str, version: int) -> Path:
    return GOLDEN / f"{name}-v{version}.h5"


def write_golden() -> None:
    """Write the golden file of every layout's current version; older ones are never written again."""
    for each in all_layouts().values():
        write_sample(golden_path(each.name, each.version), each.name)


if __name__ == "__main__":
    write_golden()
