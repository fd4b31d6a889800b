"""Keypoints of an hloc file arrive where they are on the working copy; what is wrong with a file is said."""

import h5py
import numpy as np
import pytest
from PIL import Image

from sfm.features.imported import UnusableLocalFeatures, group_names, on_working_copy, read_features
from sfm.features.sift import FeatureOptions, MissingFeatures, extract_features
from sfm.photographs.outcome import Outcome
from storage.hdf5.file import read_items
from storage.hdf5.open import open_artifact
from storage.pictures.exif import UPRIGHT
from tests.sfm.feature_scenes import sha_of
from tests.sfm.hloc_files import blank, write_hloc

A, B = sha_of("a"), sha_of("b")
NAMES = {"a.jpg": A, "der Bau/Tür 1\n.jpg": B, "broken.jpg": ""}


def outcome(orientation: int = 1, size=(80, 60), working=(80, 60)) -> Outcome:
    return Outcome("ok", "", *size, orientation, *working, 70.0)


def moved(point, size, seen: Outcome, frame="auto") -> list[float]:
    keypoints, sides = np.array([point], np.float64), np.array(size, np.float64)
    return on_working_copy(keypoints, sides, seen, frame, "f.h5: 'a.jpg'")[0].tolist()


def test_a_keypoint_is_scaled_about_the_corner_of_the_picture():
    # 160 x 120 -> 80 x 60: the corner (-0.5, -0.5) stays, (9.5, 19.5) is 10, 20 from it and then 5, 10
    assert moved((-0.5, -0.5), (160, 120), outcome(size=(160, 120))) == [-0.5, -0.5]
    assert moved((9.5, 19.5), (160, 120), outcome(size=(160, 120))) == [4.5, 9.5]


def test_keypoints_of_a_resized_picture_are_taken_by_its_size():
    assert moved((39.5, 29.5), (80, 60), outcome(size=(1600, 1200), working=(640, 480))) == [319.5, 239.5]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_stored_keypoint_turns_with_its_photograph(orientation):
    stored = Image.new("L", (8, 6))
    stored.putpixel((6, 1), 255)
    upright = stored.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else stored
    (y,), (x,) = np.nonzero(np.asarray(upright))
    seen = outcome(orientation, (8, 6), upright.size)
    np.testing.assert_allclose(moved((6, 1), (8, 6), seen, "stored"), [x, y], atol=1e-6)
    np.testing.assert_allclose(moved((x, y), upright.size, seen, "upright"), [x, y], atol=1e-6)
    np.testing.assert_allclose(moved((6, 1), (8, 6), seen), [x, y], atol=1e-6)


def test_the_size_says_whether_a_photograph_was_turned():
    seen = outcome(6, (80, 60), (60, 80))
    assert moved((10, 20), (60, 80), seen) == [10, 20]  # upright already
    assert moved((10, 20), (80, 60), seen) == [39, 10]  # x = 60 - 1 - 20
    assert moved((10, 20), (81, 61), seen, "stored") == pytest.approx([39, 10], abs=1)  # rounded by a resize


@pytest.mark.parametrize(
    ("size", "frame", "what"),
    [
        ((60, 60), "auto", "image_size 60 x 60 has not the shape of the photograph, 80 x 60 stored"),
        ((80, 60), "upright", "not the shape of the photograph, 60 x 80 upright"),
    ],
)
def test_a_picture_of_another_shape_is_refused(size, frame, what):
    with pytest.raises(UnusableLocalFeatures, match=what):
        moved((10, 20), size, outcome(6, (80, 60), (60, 80)), frame)


@pytest.fixture
def file(tmp_path):
    return write_hloc(tmp_path / "feats.h5", {"a.jpg": blank(5), "der Bau/Tür 1\n.jpg": blank(2)})


def test_photographs_are_found_by_any_of_their_names(file, tmp_path):
    assert group_names(file, NAMES, [A, B]) == {A: "a.jpg", B: "der Bau/Tür 1\n.jpg"}
    copies = {"0.jpg": A, "b.jpg": A, **NAMES}
    assert group_names(file, copies, [A]) == {A: "a.jpg"}
    by_digest = write_hloc(tmp_path / "digests.h5", {A: blank()})
    assert group_names(by_digest, NAMES, [A]) == {A: A}


def test_a_group_becomes_features_of_the_working_copy(file):
    found = dict(
        read_features(file, {A: "a.jpg", B: "der Bau/Tür 1\n.jpg"}, {A: outcome(), B: outcome()}, "auto")
    )
    with h5py.File(file) as opened:
        group = opened["a.jpg"]
        np.testing.assert_allclose(found[A]["keypoints"], group["keypoints"][()], atol=1e-5)
        np.testing.assert_array_equal(found[A]["descriptors"], group["descriptors"][()].astype(np.float32))
        np.testing.assert_array_equal(found[A]["scores"], group["scores"][()].astype(np.float32))
    assert found[A]["descriptors"].dtype == np.float32
    assert found[A]["image_size"].tolist() == [80, 60] and found[A]["focal_prior_px"] == 70.0
    assert len(found[B]["keypoints"]) == 2


def test_features_of_a_chunk_are_sound_and_do_not_depend_on_it(file, tmp_path):
    groups = group_names(file, NAMES, [A, B])
    options, out = FeatureOptions(hloc_file=file), tmp_path / "f.h5"
    working = [(sha, tmp_path, outcome()) for sha in (B, A)]
    both = extract_features(working, options, out, groups=groups, inputs=["a" * 64])
    alone = extract_features(working[1:], options, tmp_path / "alone.h5", groups=groups)
    assert alone == {A: both[A]}
    with open_artifact(out, "features") as artifact:
        assert artifact.validate() == [] and artifact.items() == sorted([A, B])
    again = extract_features(working, options, tmp_path / "again.h5", groups=groups, inputs=["a" * 64])
    assert again == both and (tmp_path / "again.h5").read_bytes() == out.read_bytes()


def test_a_photograph_without_keypoints_and_a_file_without_scores_are_fine(tmp_path):
    file = write_hloc(tmp_path / "feats.h5", {"a.jpg": blank(0), "b.jpg": blank(2, scores=None)})
    groups = group_names(file, {"a.jpg": A, "b.jpg": B}, [A, B])
    working = [(sha, tmp_path, outcome()) for sha in (A, B)]
    extract_features(working, FeatureOptions(hloc_file=file), tmp_path / "f.h5", groups=groups)
    found = dict(read_items(tmp_path / "f.h5"))
    assert found[A]["descriptors"].shape == (4, 0) and found[A]["keypoints"].shape == (0, 2)
    assert found[B]["scores"].tolist() == [1, 1]


def test_a_photograph_that_the_file_lacks_is_named(file):
    names = {**NAMES, "c d.jpg": "c" * 64}
    what = r"of 'c d.jpg' \(1 of 3 photographs are missing; its root holds 'a.jpg', 'der Bau'\)"
    with pytest.raises(UnusableLocalFeatures, match=what):
        group_names(file, names, [A, B, "c" * 64])
    with pytest.raises(UnusableLocalFeatures, match="'der Bau'"):  # a folder of photographs is none itself
        group_names(file, {"der Bau": "c" * 64}, ["c" * 64])


@pytest.mark.parametrize(
    ("arrays", "what"),
    [
        (blank(keypoints=np.zeros((3, 4))), r"keypoints of shape \(3, 4\)"),
        (blank(keypoints=np.zeros((0,))), r"keypoints of shape \(0,\)"),
        (blank(3, 4, descriptors=np.ones((3, 4))), r"descriptors of shape \(3, 4\); hloc has .*\[D, n\]"),
        (blank(descriptors=np.ones((0, 3))), r"descriptors of shape \(0, 3\)"),
        (blank(descriptors=np.ones((32, 3), np.uint8)), "descriptors are uint8; give float16"),
        (blank(image_size=np.array([80, 60, 3])), r"image_size of shape \(3,\)"),
        (blank(scores=np.ones(2)), r"scores of shape \(2,\)"),
        (blank(image_size=None), "'a.jpg' has no image_size"),
        (blank(descriptors=None), "'a.jpg' has no descriptors"),
    ],
)
def test_wrong_shapes_and_types_are_found_before_anything_is_read(tmp_path, arrays, what):
    file = write_hloc(tmp_path / "feats.h5", {"a.jpg": arrays})
    with pytest.raises(UnusableLocalFeatures, match=what):
        group_names(file, {"a.jpg": A}, [A])


def test_two_extractors_in_one_file_are_refused(tmp_path):
    file = write_hloc(tmp_path / "feats.h5", {"a.jpg": blank(3, 4), "b.jpg": blank(3, 8)})
    with pytest.raises(UnusableLocalFeatures, match=r"'a.jpg' have 4 numbers, of 'b.jpg' 8"):
        group_names(file, {"a.jpg": A, "b.jpg": B}, [A, B])


@pytest.mark.parametrize(
    ("arrays", "what"),
    [
        (
            blank(keypoints=np.array([[1, 1], [1, np.nan], [2, 2]])),
            "'a.jpg': keypoints hold values that are not",
        ),
        (blank(descriptors=np.full((4, 3), np.inf)), "descriptors hold values that are not finite"),
        (
            blank(keypoints=np.array([[1, 1], [1, 1], [200, 2]])),
            r"keypoint 2 at \(200, 2\) lies outside .* 80 x 60",
        ),
        (blank(keypoints=np.array([[1, 1], [-4, 1], [2, 2]])), r"keypoint 1 at \(-4, 1\) lies outside"),
        (blank(image_size=np.array([0, 60])), "image_size 0 x 60"),
    ],
)
def test_wrong_values_are_refused_with_the_photograph(tmp_path, arrays, what):
    file = write_hloc(tmp_path / "feats.h5", {"a.jpg": arrays})
    groups = group_names(file, {"a.jpg": A}, [A])
    options = FeatureOptions(hloc_file=file)
    with pytest.raises(UnusableLocalFeatures, match=what):
        extract_features([(A, tmp_path, outcome())], options, tmp_path / "f.h5", groups=groups)
    assert not (tmp_path / "f.h5").exists()


def test_rounding_of_half_precision_may_leave_the_picture(tmp_path):
    arrays = blank(1, 4, (4001, 3000), keypoints=np.array([[4000.4, 10]]))
    file = write_hloc(tmp_path / "feats.h5", {"a.jpg": arrays})
    seen = {A: outcome(size=(4001, 3000), working=(640, 480))}
    ((_, found),) = read_features(file, {A: "a.jpg"}, seen, "auto")
    assert found["keypoints"][0, 0] == pytest.approx(639.5, abs=0.3)


@pytest.mark.parametrize("content", [None, b"", b"text", b"\x89HDF\r\n\x1a\n" + b"\0" * 60])
def test_what_is_no_hloc_file_is_refused(tmp_path, content):
    path = tmp_path / "feats.h5"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UnusableLocalFeatures, match=r"feats.h5: .*features.hloc_file"):
        group_names(path, NAMES, [A, B])


def test_links_to_other_files_are_not_followed(file, tmp_path):
    with h5py.File(tmp_path / "linked.h5", "w") as linked:
        linked["a.jpg"] = h5py.ExternalLink(str(file), "a.jpg")
    with pytest.raises(UnusableLocalFeatures, match=r"no local features of 'a.jpg'"):
        group_names(tmp_path / "linked.h5", {"a.jpg": A}, [A])


def test_a_name_that_is_not_utf8_is_only_missing(file):
    with pytest.raises(UnusableLocalFeatures, match="no local features of"):
        group_names(file, {"f\udcff.jpg": "c" * 64}, ["c" * 64])


def test_a_rejected_photograph_and_one_without_a_group_are_refused(file, tmp_path):
    options = FeatureOptions(hloc_file=file)
    with pytest.raises(MissingFeatures, match="it is rejected"):
        extract_features([(A, tmp_path, Outcome("rejected", "empty"))], options, tmp_path / "f.h5")
    with pytest.raises(UnusableLocalFeatures, match=f"no group is known for photograph {A}"):
        extract_features([(A, tmp_path, outcome())], options, tmp_path / "f.h5")
