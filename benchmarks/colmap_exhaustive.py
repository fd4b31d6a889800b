"""COLMAP's own pipeline on a folder of images: extract, match every pair, map incrementally.

    python -m benchmarks.colmap_exhaustive IMAGES FOLDER [--threads 2]

The plain way beside which reconstruct is measured. Prints a line of JSON: seconds of each part, photographs
registered in models of three or more, models. FOLDER/models holds the models, for
`benchmarks/judge_models.py`.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import pycolmap

from sfm.features.sift import FeatureOptions
from sfm.matching.match import MatchingOptions


def main() -> None:
    parser = argparse.ArgumentParser(description="COLMAP's exhaustive pipeline.")
    parser.add_argument("images", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    database = asked.folder / "database.db"
    seconds: dict[str, float] = {}
    started = time.monotonic()
    extract(database, asked.images, asked.threads)
    seconds["extract_s"] = time.monotonic() - started
    started = time.monotonic()
    match(database, asked.threads)
    seconds["match_s"] = time.monotonic() - started
    started = time.monotonic()
    models = asked.folder / "models"
    models.mkdir(exist_ok=True)
    options = pycolmap.IncrementalPipelineOptions()
    options.num_threads = asked.threads
    options.min_model_size = 3
    found = pycolmap.incremental_mapping(database, asked.images, models, options)
    seconds["map_s"] = time.monotonic() - started
    registered = {image.name for model in found.values() for image in model.images.values() if image.has_pose}
    print(json.dumps({**seconds, "registered": len(registered), "models": len(found)}))


def extract(database: Path, images: Path, threads: int) -> None:
    """SIFT of every image, as many features as ours."""
    options = pycolmap.FeatureExtractionOptions()
    options.use_gpu = False
    options.num_threads = threads
    options.sift.max_num_features = FeatureOptions().max_num_features
    pycolmap.extract_features(
        database, images, camera_mode=pycolmap.CameraMode.PER_IMAGE, extraction_options=options
    )


def match(database: Path, threads: int) -> None:
    """Every pair, the thresholds ours."""
    ours = MatchingOptions()
    options = pycolmap.FeatureMatchingOptions()
    options.use_gpu = False
    options.num_threads = threads
    options.sift.max_ratio = ours.max_ratio
    verification = pycolmap.TwoViewGeometryOptions()
    verification.ransac.max_error = ours.max_error_px
    verification.min_num_inliers = ours.min_inliers
    pycolmap.match_exhaustive(database, matching_options=options, verification_options=verification)


if __name__ == "__main__":
    main()
