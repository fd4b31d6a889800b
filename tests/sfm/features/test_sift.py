"""Local features are COLMAP's, in hloc's layout, whatever the chunk and the threads."""

import signal
from pathlib import Path

import numpy as np
import pycolmap
import pytest
from PIL import Image, ImageFilter

from sfm.features.sift import (
    FeatureOptions,
    FeatureResources,
    MissingFeatures,
    PhotographKills,
    extract_features,
)
from sfm.photographs.outcome import Outcome
from storage.hdf5.file import read_items
from storage.hdf5.open import open_artifact
from tests.killed_children import killing_children
from tests.sfm.feature_scenes import sha_of

NAMES = ["blobs", "more blobs", "blank"]
SHAS = [sha_of(name) for name in NAMES]


def outcome(width: int, height: int) -> Outcome:
    return Outcome("ok", "", width, height, 1, width, height, 210.5)


@pytest.fixture(scope="module")
def working(tmp_path_factory) -> list[tuple[str, Path, Outcome]]:
    folder = tmp_path_factory.mktemp("working")
    rng = np.random.default_rng(0)
    for sha, name in zip(SHAS, NAMES, strict=True):
        noise = Image.fromarray(rng.integers(0, 256, (120, 160), dtype=np.uint8))
        picture = Image.new("L", (160, 120), 127) if name == "blank" else noise.filter(ImageFilter.BoxBlur(3))
        picture.save(folder / f"{sha}.jpg", quality=95)
    return [(sha, folder, outcome(160, 120)) for sha in SHAS]


@pytest.fixture(scope="module")
def extracted(working, tmp_path_factory) -> tuple[Path, dict[str, str]]:
    out = tmp_path_factory.mktemp("features") / "f.h5"
    return out, extract_features(working, FeatureOptions(peak_threshold=0.002), out, inputs=["a" * 64])


def test_every_photograph_has_its_group(extracted):
    out, digests = extracted
    groups = dict(read_items(out))
    assert set(groups) == set(digests) == set(SHAS)
    for sha in SHAS:
        group, count = groups[sha], len(groups[sha]["keypoints"])
        assert (count > 20) == (sha != SHAS[2])
        assert group["keypoints"].shape == (count, 2)
        assert group["descriptors"].shape == (128, count) and group["descriptors"].dtype == np.uint8
        assert group["image_size"].tolist() == [160, 120]
        assert group["focal_prior_px"] == 210.5
        assert (group["scales"] > 0).all() and np.abs(group["orientations"]).max(initial=0) <= np.pi + 1e-6
    with open_artifact(out, "features") as artifact:
        assert artifact.inputs == ["a" * 64]
        assert artifact.validate() == []


def test_keypoints_are_colmaps_minus_half_a_pixel(working, extracted, tmp_path):
    sha, folder, _ = working[0]
    database = tmp_path / "db"
    pycolmap.Database.open(database).close()
    options = pycolmap.FeatureExtractionOptions()
    options.sift.peak_threshold = 0.002
    pycolmap.extract_features(database, folder, image_names=[f"{sha}.jpg"], extraction_options=options)
    with pycolmap.Database.open(database) as opened:
        keypoints, descriptors = opened.read_keypoints(1), opened.read_descriptors(1).data
    group = dict(read_items(extracted[0], [sha]))[sha]
    np.testing.assert_allclose(group["keypoints"] + 0.5, keypoints[:, :2], atol=1e-4)
    np.testing.assert_array_equal(group["descriptors"].T, descriptors)


def test_neither_company_nor_threads_matter(working, extracted, tmp_path):
    options, two = FeatureOptions(peak_threshold=0.002), FeatureResources(threads=2)
    again = extract_features(working[::-1], options, tmp_path / "again.h5", resources=two, inputs=["a" * 64])
    alone = extract_features(working[1:2], options, tmp_path / "alone.h5")
    assert again == extracted[1]
    assert (tmp_path / "again.h5").read_bytes() == extracted[0].read_bytes()
    assert alone == {SHAS[1]: extracted[1][SHAS[1]]}


def test_folders_may_be_given_relative(working, extracted, tmp_path, monkeypatch):
    monkeypatch.chdir(working[0][1].parent)
    relative = [(sha, Path(folder.name), each) for sha, folder, each in working[:1]]
    digests = extract_features(relative, FeatureOptions(peak_threshold=0.002), tmp_path / "f.h5")
    assert digests[SHAS[0]] == extracted[1][SHAS[0]]


def test_fewer_features_can_be_asked_for(working, extracted, tmp_path):
    options = FeatureOptions(peak_threshold=0.002, max_num_features=64)
    extract_features(working[:1], options, tmp_path / "f.h5")
    few = dict(read_items(tmp_path / "f.h5"))[SHAS[0]]
    many = dict(read_items(extracted[0]))[SHAS[0]]
    assert 0 < len(few["keypoints"]) < len(many["keypoints"])
    assert np.median(few["scores"]) > np.median(many["scores"])
    assert set(map(tuple, few["keypoints"])) <= set(map(tuple, many["keypoints"]))


def test_a_photograph_without_working_copy_is_refused(working, tmp_path):
    rejected = (SHAS[0], working[0][1], Outcome("rejected", "empty"))
    with pytest.raises(MissingFeatures, match=rf"{SHAS[0]}: it is rejected \(empty\)"):
        extract_features([rejected], FeatureOptions(), tmp_path / "f.h5")


def test_a_missing_working_copy_is_named(tmp_path):
    with pytest.raises(MissingFeatures, match="features of 1 photographs"):
        extract_features([(SHAS[0], tmp_path, outcome(9, 9))], FeatureOptions(), tmp_path / "f.h5")


def test_a_killed_chunk_is_extracted_again(working, extracted, tmp_path, monkeypatch):
    tries = killing_children(monkeypatch, "sfm.features.sift:_extract", signal.SIGKILL, times=1)
    options = FeatureOptions(peak_threshold=0.002)
    assert extract_features(working, options, tmp_path / "f.h5", inputs=["a" * 64]) == extracted[1]
    assert len(tries) == 2 and (tmp_path / "f.h5").read_bytes() == extracted[0].read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["f.h5"]


def test_one_by_one_gives_the_same_bytes(working, extracted, tmp_path, monkeypatch):
    """Killed as a chunk, as when memory is short, but not one by one; and once one of those."""
    tries = killing_children(monkeypatch, "sfm.features.sift:_extract", signal.SIGKILL, times=3)
    options = FeatureOptions(peak_threshold=0.002)
    assert extract_features(working, options, tmp_path / "f.h5", inputs=["a" * 64]) == extracted[1]
    assert len(tries) == 2 + 1 + len(SHAS)
    assert (tmp_path / "f.h5").read_bytes() == extracted[0].read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["f.h5"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT])
def test_a_photograph_that_kills_each_time_fails_by_name(working, tmp_path, monkeypatch, number):
    """It never gets empty features: its process said nothing of it."""
    first = min(SHAS)
    killing_children(
        monkeypatch,
        "sfm.features.sift:_extract",
        number,
        only=lambda it: first in {p[0] for p in it["photographs"]},
    )
    with pytest.raises(
        PhotographKills, match=rf"'a\.jpg'.*{number.name}.*alone too.*leave the photograph out"
    ):
        extract_features(working, FeatureOptions(), tmp_path / "f.h5", names={first: "a.jpg"})
    assert list(tmp_path.iterdir()) == []
