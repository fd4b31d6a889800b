"""Local features, pairs, matches and clusters."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from retrieval.describe.rows import descriptor_rows
from sfm.features import sift as features
from sfm.features.sift import FeatureOptions, FeatureResources
from sfm.mapping import clusters
from sfm.mapping.clusters import ClusterOptions
from sfm.matching import match
from sfm.matching.match import MatchingOptions, MatchingResources
from sfm.pairing import chunk_order, expansion, propose
from sfm.pairing.expansion import ExpansionOptions
from sfm.pairing.proposal import read_pairs
from sfm.pairing.strategies import PairOptions
from sfm.pairing.vocabulary import VocabularyResources
from sfm.photographs.catalogue import read_names, read_positions
from sfm.photographs.outcome import read_outcomes
from storage.files.digests import json_sha256
from storage.hdf5 import file as hdf5
from storage.keys.artifacts import ArtifactRef
from storage.store.store import Store
from tasks.engine.caching import artifact_path, running, stage_task
from tasks.engine.chunks import Chunk, Items, Part, file_of_items, item_digests


@stage_task(features.STAGE, labels=("groups", "names"))
def extract_features(
    out: Path,
    options: FeatureOptions,
    chunk: Chunk,
    groups: Mapping[str, str] | None = None,
    names: Mapping[str, str] | None = None,
    resources: FeatureResources | None = None,
) -> dict[str, Any]:
    """Local features of a chunk of photographs (sha256) from their working copies, or those that a file of
    hloc's has under `groups` (sha256 -> name); names: sha256 -> file name, for errors."""
    call = running()
    folders = file_of_items(call.store, chunk.refs)
    outcomes = read_outcomes({folders[sha] for sha in chunk.made_from})
    photographs = [(sha, folders[sha], outcomes[sha]) for sha in chunk.made_from]
    found = features.extract_features(
        photographs, options, out, groups=groups, names=names, resources=resources, inputs=call.inputs
    )
    return chunk.made(found)


def features_wanted(
    working: Mapping[str, str], shas: Iterable[str], groups: Mapping[str, str]
) -> dict[str, str]:
    """sha256 -> digest of what its features depend on: working copy, and group where a file has them."""
    return {sha: json_sha256([working[sha], groups[sha]]) if sha in groups else working[sha] for sha in shas}


@stage_task(propose.STAGE, labels=("shas",))
def propose_pairs(
    out: Path,
    options: PairOptions,
    shas: list[str],
    descriptors: Items,
    features: Items,
    catalogue: Part,
    resources: VocabularyResources | None = None,
) -> None:
    """The pairs that are matched first (catalogue: `tasks.photographs.proposal_facts`)."""
    call, (path,) = running(), map(artifact_path, catalogue.refs)
    propose.propose_pairs(
        shas,
        descriptor_rows(file_of_items(call.store, descriptors.refs), shas),
        options,
        out,
        features=file_of_items(call.store, features.refs),
        names=read_names(path),
        positions=read_positions(path),
        resources=resources,
        inputs=call.inputs,
    )


@stage_task(expansion.STAGE, labels=("shas", "proposals"))
def expand_pairs(
    out: Path, options: ExpansionOptions, shas: list[str], proposals: list[ArtifactRef], matches: Items
) -> None:
    """The pairs that verified ones suggest."""
    attempts, inliers = attempts_of(proposals, matches)
    expansion.expand_pairs(shas, attempts, inliers, options, out, inputs=running().inputs)


@stage_task(match.STAGE)
def match_pairs(
    out: Path, options: MatchingOptions, chunk: Chunk, resources: MatchingResources | None = None
) -> dict[str, Any]:
    """Match and verify a chunk of pairs (`<sha256>-<sha256>`) by their photographs' features."""
    call, wanted = running(), [split_pair(item) for item in chunk.made_from]
    files = file_of_items(call.store, chunk.refs)
    found = match.match_pairs(wanted, files, options, out, resources=resources, inputs=call.inputs)
    return chunk.made(found)


@stage_task(clusters.STAGE, labels=("shas", "proposals"))
def find_clusters(
    out: Path, options: ClusterOptions, shas: list[str], proposals: list[ArtifactRef], matches: Items
) -> None:
    """Connected photographs."""
    attempts, inliers = attempts_of(proposals, matches)
    clusters.find_clusters(shas, attempts, inliers, options, out)


def attempts_of(proposals: list[ArtifactRef], matches: Items) -> match.Attempts:
    """Inside a stage task: what matching found for the proposed pairs; chunks may hold others as well."""
    wanted = {pair for ref in proposals for pair in read_pairs(artifact_path(ref))}
    return match.read_attempts([artifact_path(ref) for ref in matches.refs], wanted)


def split_pair(item: str) -> tuple[str, str]:
    """The two photographs of a pair id."""
    first, second = item.split("-")
    return first, second


def ends(items: Iterable[str]) -> set[str]:
    """The photographs of pair ids."""
    return {sha for item in items for sha in split_pair(item)}


def pair_input(features: dict[str, str], item: str) -> str:
    """Digest of what a pair's matches depend on: the two photographs' features (sha256 -> digest)."""
    first, second = split_pair(item)
    return json_sha256([features[first], features[second]])


def matches_of(
    store: Store, matches: list[ArtifactRef], proposals: list[ArtifactRef], features: list[ArtifactRef]
) -> Items:
    """What was found for every pair of some proposals."""
    return Items(matches, list(pairs_wanted(store, proposals, features)))


def pairs_wanted(store: Store, proposals: list[ArtifactRef], features: list[ArtifactRef]) -> dict[str, str]:
    """Pair id -> digest of its input, of every pair in some proposals, in the order in which chunks of them
    share most."""
    digests = item_digests(store, features)
    wanted = chunk_order.near_together(pair for ref in proposals for pair in read_pairs(store.path(ref)))
    ids = [match.pair_id(*pair) for pair in wanted]
    return {item: pair_input(digests, item) for item in ids}


def pair_sources(store: Store, proposals: list[ArtifactRef]) -> list[str]:
    """What proposed the pairs behind a scene: exhaustive, descriptor, vocabulary, spatial, sequential,
    list, expansion."""
    columns = [hdf5.read(store.path(ref), "pairs", ["pairs/source"])["pairs/source"] for ref in proposals]
    return sorted(
        {source for column in columns for text in set(column.tolist()) for source in text.split("+")}
    )
