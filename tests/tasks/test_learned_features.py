"""From photographs and an hloc file to 3D models through the stage tasks, on a small rendered building.

The learned features are SIFT in disguise: float descriptors of any length, on the photographs as stored.
"""

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from flows.options.loading import load
from sfm.features.imported import UnusableLocalFeatures
from sfm.features.sift import FeatureOptions
from sfm.mapping.clusters import ClusterOptions
from sfm.mapping.map import MappingOptions
from sfm.matching.match import MatchingOptions, UnusablePairs
from sfm.pairing.strategies import PairOptions, UnusableStrategy
from sfm.photographs.catalogue import CatalogueOptions, read_names
from sfm.photographs.outcome import read_outcomes
from sfm.photographs.working import WorkingOptions
from storage.hdf5.file import read_items
from storage.keys.artifacts import ArtifactRef
from storage.pictures.exif import UPRIGHT
from storage.store.store import Store
from tasks.engine.chunks import Chunk, Items, chunks_of, holders, item_digests
from tasks.mapping import clusters_to_map, map_cluster, mapping_calls
from tasks.matching import (
    extract_features,
    features_wanted,
    find_clusters,
    match_pairs,
    pairs_wanted,
    propose_pairs,
)
from tasks.photographs import (
    accepted,
    build_catalogue,
    check_feature_options,
    feature_groups,
    make_working_copies,
    proposal_facts,
    scan_photographs,
    to_decode,
)
from tests.sfm.hloc_files import write_hloc
from town.town import TownOptions, render_town

TOWN = TownOptions(
    buildings=1, min_views=6, max_views=6, distractors=0, image_width=320, image_height=240, texels_per_m=40
)
TURNED = {1: 6, 2: 3}  # photograph in order of names -> EXIF orientation that it is stored with
SIFT = FeatureOptions(peak_threshold=0.002)


class World:
    """A store with the working copies and the catalogue of a folder of photographs."""

    def __init__(self, store: Store, photos: Path) -> None:
        self.store, self.root = store, str(store.root)
        scan = scan_photographs.fn(self.root, str(photos))
        wanted = to_decode(store, scan)
        size = WorkingOptions(working_size=288)
        self.copies = make_working_copies.fn(self.root, size, Chunk(wanted), photos=str(photos))
        self.catalogue = build_catalogue.fn(
            self.root, CatalogueOptions(), scan=scan, working=Items([self.copies]), photos=str(photos)
        )
        self.shas = accepted(store, self.catalogue)

    def features(self, options: FeatureOptions) -> ArtifactRef:
        check_feature_options(self.store, self.catalogue, options, PairOptions(), MatchingOptions())
        groups = feature_groups(self.store, self.catalogue, options)
        wanted = features_wanted(item_digests(self.store, [self.copies]), self.shas, groups)
        (chunk,) = chunks_of(self.store, extract_features.cache_policy.stage, options, wanted, 100)
        chunk = replace(chunk, refs=[self.copies])
        return extract_features.fn(self.root, options, chunk, groups=groups)

    def models(self, local: ArtifactRef) -> list[dict]:
        pairs = propose_pairs.fn(
            self.root,
            PairOptions(),
            self.shas,
            descriptors=Items([]),
            features=Items([local]),
            catalogue=proposal_facts(self.store, self.catalogue, PairOptions()),
        )
        wanted = pairs_wanted(self.store, [pairs], [local])
        matches = match_pairs.fn(self.root, MatchingOptions(), Chunk(wanted, [local]))
        found = find_clusters.fn(
            self.root,
            ClusterOptions(),
            self.shas,
            proposals=[pairs],
            matches=Items([matches]),
        )
        large = clusters_to_map(self.store, found, MappingOptions())
        calls = mapping_calls(self.store, large, [local], [matches], [self.copies])
        refs = [map_cluster.fn(self.root, MappingOptions(), clusters_of=found, **call) for call in calls]
        return [model for ref in refs for model in self.store.sidecar(ref).facts["models"]]

    def disguised(self, path: Path, sift: ArtifactRef) -> Path:
        """The SIFT features as hloc would have written learned ones, on the photographs as stored."""
        outcomes = read_outcomes([self.store.path(self.copies)])
        names = {sha: name for name, sha in read_names(self.store.path(self.catalogue)).items()}
        groups = {}
        for sha, group in read_items(self.store.path(sift)):
            seen = outcomes[sha]
            working = np.array([seen.working_width, seen.working_height])
            unit = (group["keypoints"].astype(np.float64) + 0.5) / working
            x, y = unit.T
            back = {1: (x, y), 3: (1 - x, 1 - y), 6: (y, 1 - x)}[seen.orientation]  # upright -> stored
            groups[names[sha]] = {
                "keypoints": np.stack(back, axis=1) * [seen.width, seen.height] - 0.5,
                "descriptors": group["descriptors"] / 100,
                "scores": group["scores"],
                "image_size": np.array([seen.width, seen.height]),
            }
        return write_hloc(path, groups)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("learned")
    photos = folder / "photos"
    render_town(photos, TOWN)
    undo = {6: Image.Transpose.ROTATE_90, 3: Image.Transpose.ROTATE_180}
    paths = sorted(path for path in photos.rglob("*") if path.suffix == ".jpg")
    for index, orientation in TURNED.items():
        with Image.open(paths[index]) as upright:
            stored, exif = upright.transpose(undo[orientation]), upright.getexif()
        assert stored.transpose(UPRIGHT[orientation]).size == upright.size
        exif[0x0112] = orientation
        stored.save(paths[index], quality=97, exif=exif)
    return World(Store.create(folder / "store", min_free_bytes=0), photos)


@pytest.fixture(scope="module")
def sift(world: World) -> ArtifactRef:
    return world.features(SIFT)


@pytest.fixture(scope="module")
def hloc_file(world: World, sift: ArtifactRef, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world.disguised(tmp_path_factory.mktemp("hloc") / "feats.h5", sift)


def test_learned_features_reconstruct_what_sift_reconstructs(
    world: World, sift: ArtifactRef, hloc_file: Path
) -> None:
    learned = world.features(FeatureOptions(hloc_file=hloc_file))
    theirs = dict(read_items(world.store.path(sift)))
    for sha, group in read_items(world.store.path(learned)):
        np.testing.assert_allclose(group["keypoints"], theirs[sha]["keypoints"], atol=0.15)  # half precision
    (by_sift,), (by_learned,) = world.models(sift), world.models(learned)
    assert by_learned["registered"] == by_sift["registered"] >= 5
    assert by_learned["points"] > 0.8 * by_sift["points"]
    assert by_learned["reprojection_error_px"] < 1.5


def test_features_are_cached_by_what_the_file_holds(world: World, hloc_file: Path, tmp_path: Path) -> None:
    first = world.features(FeatureOptions(hloc_file=hloc_file))
    moved = tmp_path / "moved.h5"
    moved.write_bytes(hloc_file.read_bytes())
    assert world.features(FeatureOptions(hloc_file=moved)) == first
    # another file in which one photograph differs: what is matched depends on that photograph alone
    groups = {}
    names = {name: sha for name, sha in read_names(world.store.path(world.catalogue)).items()}
    with h5py.File(hloc_file) as file:
        for name in names:
            groups[name] = {key: each[()] for key, each in file[name].items()}
    changed = sorted(names)[0]
    groups[changed]["scores"] = groups[changed]["scores"] / 2
    other = world.features(FeatureOptions(hloc_file=write_hloc(tmp_path / "other.h5", groups)))
    before, after = item_digests(world.store, [first]), item_digests(world.store, [other])
    assert {sha for sha in before if before[sha] != after[sha]} == {names[changed]}
    assert set(holders(world.store, [other])) == set(world.shas)


def test_a_rename_does_not_change_sift_and_asks_a_file_for_the_new_name(
    world: World, hloc_file: Path
) -> None:
    digests = item_digests(world.store, [world.copies])
    assert features_wanted(digests, world.shas, {}) == digests
    groups = feature_groups(world.store, world.catalogue, FeatureOptions(hloc_file=hloc_file))
    sha = world.shas[0]
    renamed = features_wanted(digests, world.shas, {**groups, sha: "elsewhere.jpg"})
    wanted = features_wanted(digests, world.shas, groups)
    assert {each for each in wanted if wanted[each] != renamed[each]} == {sha}
    assert not set(wanted.values()) & set(digests.values())


def test_what_is_wrong_is_said_before_anything_is_extracted(
    world: World, hloc_file: Path, tmp_path: Path
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"reconstruction:\n  features: {{hloc_file: {hloc_file}, hloc_frame: stored}}\n")

    def check(*sets: str) -> None:
        options = load(config, [f"reconstruction.{each}" for each in sets])[0].reconstruction
        check_feature_options(world.store, world.catalogue, options.features, options.pairs, options.matching)

    check()
    with pytest.raises(UnusableStrategy, match="SIFT only"):
        check("pairs.strategy=vocabulary")
    with pytest.raises(UnusablePairs, match=r"matching\.guided"):
        check("matching.guided=true")
    with pytest.raises(UnusableLocalFeatures, match="6 of 6 photographs are missing"):
        check(f"features.hloc_file={write_hloc(tmp_path / 'empty.h5', {})}")
    check("features.hloc_file=null", "pairs.strategy=vocabulary", "matching.guided=true")
