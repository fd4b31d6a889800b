"""A chunk of photograph pairs: SIFT matching and geometric verification by COLMAP, in hloc's layout.

Learned features are matched by `sfm/matching/learned.py` and verified in the same way.

What comes out for a pair depends on the two photographs' features only: not on the chunk, its order or the
threads.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sfm.features.database import (
    PairGeometry,
    by_file,
    hold_sift,
    image_name,
    read_geometries,
    write_features,
)
from sfm.matching.learned import write_learned_matches
from storage.children.patience import run_patiently
from storage.files.scratch import scratch_folder
from storage.hdf5.file import ItemWriter, read_items
from storage.hdf5.open import open_artifact
from storage.keys.options import Options, Resources
from storage.keys.stages import Stage

logger = logging.getLogger(__name__)

STAGE = Stage(
    name="matches",
    version=1,
    schema_name="matches",
    suffix=".h5",
    packages=("pycolmap", "numpy", "h5py"),
    code=__name__,
)
_NOT_VERIFIED = (0, 1, 8)
"""COLMAP's UNDEFINED, DEGENERATE and WATERMARK; logos and frames are no common scene."""


class MatchingOptions(Options):
    """Matching of local features and verification of a pair by its two-view geometry."""

    min_inliers: int = Field(
        15, ge=8, description="matches that must agree with the geometry of a verified pair"
    )
    raw_inliers: int = Field(
        8,
        ge=7,
        description="fewest inliers that are counted for a pair that is not verified; below, 0 is recorded",
    )
    max_ratio: float = Field(
        0.8, gt=0, le=1, description="distance to the nearest / to the second nearest feature"
    )
    min_similarity: float = Field(
        -1.0,
        ge=-1,
        le=1,
        description="learned features: cosine between matched descriptors at least; -1 = any",
    )
    max_error_px: float = Field(
        4.0, gt=0, description="distance from the geometry at which a match agrees, px"
    )
    guided: bool = Field(
        False, description="match again along the geometry that was found (2.6 times slower)"
    )


class MatchingResources(Resources):
    """What matching may use."""

    threads: int = Field(1, ge=1, description="threads of one chunk's process")
    time_limit_s: float = Field(1800.0, gt=0, description="a chunk that takes longer fails, seconds")
    block_size: int = Field(400, ge=1, description="pairs between two looks at the clock; larger is faster")


Attempts = tuple[list[tuple[str, str]], NDArray[np.int64]]
"""Pairs of photographs (smaller sha256 first) and the raw inliers of each [A]."""


class UnusablePairs(ValueError):
    """Pairs that cannot be matched as given."""


def check_learned(options: MatchingOptions) -> None:
    """Raise UnusablePairs for options that learned features do not allow."""
    if options.guided:
        raise UnusablePairs("matching.guided compares SIFT only; set it to false for learned features")


def pair_id(first: str, second: str) -> str:
    """The name of a pair of photographs, the smaller sha256 first: `<sha>-<sha>`."""
    return f"{min(first, second)}-{max(first, second)}"


def match_pairs(
    pairs: Sequence[tuple[str, str]],
    features: Mapping[str, Path],
    options: MatchingOptions,
    out: Path,
    *,
    resources: MatchingResources | None = None,
    inputs: Sequence[str] = (),
) -> dict[str, str]:
    """Match a chunk of pairs of photographs (sha256, sha256) and write `out` (schema matches).

    features: sha256 -> features file that holds the photograph. Returns pair id -> digest of what was found
    for it. Raises UnusablePairs, MixedFeatures, ChildFailed.
    """
    resources = resources or MatchingResources()
    started = time.monotonic()
    wanted = _checked(pairs, features)
    shas = sorted({sha for pair in wanted for sha in pair})
    learned = not hold_sift({sha: features[sha] for sha in shas})
    if learned:
        check_learned(options)
    request = {
        "pairs": wanted,
        "features": {sha: str(features[sha]) for sha in shas},
        "options": options.model_dump(mode="json"),
        "resources": resources.model_dump(mode="json"),
        "learned": learned,
        "out": str(out),
        "inputs": list(inputs),
    }
    label = f"matching of {len(wanted)} pairs from {shas[0][:12] if shas else 'none'}"
    threads = 1 if learned else resources.threads  # numpy's products can depend on the number of threads
    reply = run_patiently(
        "sfm.matching.match:_match",
        request,
        label=label,
        total_limit_s=resources.time_limit_s,
        threads=threads,
    )
    logger.info(
        "%d of %d pairs verified in %.1f s", reply["verified"], len(wanted), time.monotonic() - started
    )
    return reply["digests"]


def read_attempts(files: Sequence[Path], wanted: Collection[tuple[str, str]] | None = None) -> Attempts:
    """The attempted pairs of several match files (all or the wanted ones), sorted, with raw inliers [A]."""
    found: dict[tuple[str, str], int] = {}
    for file in files:
        with open_artifact(file, "matches") as artifact:
            columns = (artifact[f"attempts/{name}"].tolist() for name in ("first", "second", "inliers"))
            found |= {(first, second): inliers for first, second, inliers in zip(*columns, strict=True)}
    pairs = sorted(found if wanted is None else found.keys() & set(wanted))
    return pairs, np.array([found[pair] for pair in pairs], np.int64)


@dataclass(frozen=True)
class ImageMatcher:
    """Matches images on demand, keeping nothing: pairs of images [K, 2] -> raw inliers [K].

    shas: sha256 of each image; features: sha256 -> features file that holds the photograph. Raises
    UnusablePairs, MixedFeatures, ChildFailed.
    """

    shas: Sequence[str]
    features: Mapping[str, Path]
    options: MatchingOptions
    resources: MatchingResources = field(default_factory=MatchingResources)

    def __call__(self, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
        if not len(pairs):
            return np.empty(0, dtype=np.int64)
        named = [(self.shas[first], self.shas[second]) for first, second in pairs.tolist()]
        wanted = [(min(pair), max(pair)) for pair in named]
        with scratch_folder("pairs") as folder:  # a killed child leaves what it wrote beside the file
            out = folder / "matches.h5"
            match_pairs(wanted, self.features, self.options, out, resources=self.resources)
            attempts, inliers = read_attempts([out], wanted)
        found = dict(zip(attempts, inliers.tolist(), strict=True))
        return np.array([found[pair] for pair in wanted], dtype=np.int64)


def verified(group: Mapping[str, NDArray[Any]]) -> PairGeometry:
    """The group of a verified pair in a match file as a geometry, its matches by the first's keypoint."""
    matches0 = group["matches0"]
    first = np.flatnonzero(matches0 >= 0)
    return PairGeometry(
        matches=np.column_stack([first, matches0[first]]).astype(np.uint32),
        configuration=int(group["configuration"]),
        fundamental=group.get("fundamental"),
        essential=group.get("essential"),
        homography=group.get("homography"),
    )


def read_verified(matches: Iterable[Sequence[str]]) -> Iterator[tuple[str, str, PairGeometry]]:
    """(first, second, geometry) of verified pairs (first, second, match file), file by file."""
    for file, items in by_file({f"{first}/{second}": file for first, second, file in matches}):
        for item, group in read_items(file, items):
            first, second = item.split("/")
            yield first, second, verified(group)


def _checked(pairs: Sequence[tuple[str, str]], features: Mapping[str, Path]) -> list[tuple[str, str]]:
    wanted = sorted({(min(pair), max(pair)) for pair in pairs})
    for first, second in wanted:
        if first == second:
            raise UnusablePairs(f"pair {first}: a photograph with itself; propose pairs of two")
        for sha in (first, second):
            if sha not in features:
                raise UnusablePairs(f"pair {first}-{second}: no features of {sha}; extract them first")
    return wanted


def _match(request: dict[str, Any], scratch: Path) -> dict[str, Any]:
    """The child's work: features into a database, match, read back, write."""
    pairs = [(first, second) for first, second in request["pairs"]]
    options = MatchingOptions(**request["options"])
    database = scratch / "matches.db"
    learned, files = request["learned"], request["features"]
    identifiers = write_features(database, files, with_descriptors=not learned)
    if pairs and learned:
        write_learned_matches(database, identifiers, files, pairs, options.max_ratio, options.min_similarity)
        import pycolmap

        pycolmap.verify_matches(database, _listing(pairs, scratch), _verification(options))
    elif pairs:
        _run_colmap(database, pairs, options, MatchingResources(**request["resources"]), scratch)
    geometries = read_geometries(database, identifiers)
    with ItemWriter(
        Path(request["out"]),
        "matches",
        stage=STAGE.name,
        options={"matching": request["options"]},
        inputs=request["inputs"],
    ) as writer:
        return _write(writer, pairs, geometries, _keypoint_counts(files), options.min_inliers)


def _run_colmap(
    database: Path,
    pairs: list[tuple[str, str]],
    options: MatchingOptions,
    resources: MatchingResources,
    scratch: Path,
) -> None:
    import pycolmap

    matching = pycolmap.FeatureMatchingOptions()
    matching.use_gpu = False
    matching.num_threads = resources.threads
    matching.guided_matching = options.guided
    matching.sift.max_ratio = options.max_ratio
    pairing = pycolmap.ImportedPairingOptions()
    pairing.match_list_path = _listing(pairs, scratch)
    pairing.block_size = resources.block_size
    pycolmap.match_image_pairs(
        database,
        matching_options=matching,
        pairing_options=pairing,
        verification_options=_verification(options),
    )


def _listing(pairs: list[tuple[str, str]], scratch: Path) -> Path:
    listing = scratch / "pairs.txt"
    listing.write_text("".join(f"{image_name(first)} {image_name(second)}\n" for first, second in pairs))
    return listing


def _verification(options: MatchingOptions) -> Any:
    import pycolmap

    verification = pycolmap.TwoViewGeometryOptions()
    verification.ransac.random_seed = 0  # without it results depend on the order of the pairs
    verification.ransac.max_error = options.max_error_px
    verification.min_num_inliers = min(options.raw_inliers, options.min_inliers)
    return verification


def _keypoint_counts(features: Mapping[str, str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for file, shas in by_file(features):
        with open_artifact(file, "features") as artifact:
            counts |= {sha: len(artifact.dataset(f"{sha}/keypoints")) for sha in shas}
    return counts


def _write(
    writer: ItemWriter,
    pairs: list[tuple[str, str]],
    geometries: Mapping[tuple[str, str], PairGeometry],
    counts: Mapping[str, int],
    min_inliers: int,
) -> dict[str, Any]:
    digests, inliers, good = {}, [], 0
    for first, second in pairs:
        geometry = geometries.get((first, second))
        usable = geometry is not None and geometry.configuration not in _NOT_VERIFIED
        inliers.append(len(geometry.matches) if geometry is not None and usable else 0)
        if geometry is not None and inliers[-1] >= min_inliers:
            digest = writer.add((first, second), **_hloc_group(geometry, counts[first]))
            good += 1
        else:
            digest = hashlib.sha256(f"{inliers[-1]} inliers".encode()).hexdigest()
        digests[pair_id(first, second)] = digest
    ends = np.array(pairs, "S64").reshape(-1, 2).T
    table = {"attempts/first": ends[0], "attempts/second": ends[1]}
    writer.add_table({**table, "attempts/inliers": np.array(inliers, np.int64)})
    return {"digests": digests, "verified": good}


def _hloc_group(geometry: PairGeometry, num_keypoints: int) -> dict[str, Any]:
    matches0 = np.full(num_keypoints, -1, np.int32)
    matches0[geometry.matches[:, 0]] = geometry.matches[:, 1]
    group: dict[str, Any] = {
        "matches0": matches0,
        "matching_scores0": (matches0 >= 0).astype(np.float32),
        "configuration": np.int64(geometry.configuration),
    }
    for name in ("fundamental", "essential", "homography"):
        matrix = getattr(geometry, name)
        if matrix is not None:
            group[name] = np.asarray(matrix, np.float64)
    return group
