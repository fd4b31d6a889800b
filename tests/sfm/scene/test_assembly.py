"""The models of a cluster's parts are models of that one cluster."""

import json

import numpy as np
import pytest

from sfm.scene import assembly, colmap
from sfm.scene.scene import Scene, SceneOptions
from tests.sfm.scene.test_scene import sha, small_model

MEMBERS = [sha(letter) for letter in "abcdefgh"]
PAIRS = [[MEMBERS[0], MEMBERS[1]], [MEMBERS[2], MEMBERS[3]], [MEMBERS[5], MEMBERS[6]]]


@pytest.fixture
def catalogue(monkeypatch):
    """Eight accepted photographs a .. h in the stead of catalogue.h5."""
    columns = {
        "photos/name": np.array([f"{letter}.jpg" for letter in "abcdefgh"], dtype=object),
        "photos/sha256": np.array(MEMBERS),
        **{f"photos/{n}": np.full(8, 640) for n in ("width", "height", "working_width", "working_height")},
        "photos/orientation": np.ones(8, dtype=np.int64),
        "photos/status": np.array(["ok"] * 8, dtype=object),
        "photos/reason": np.array([""] * 8, dtype=object),
        "photos/alias_of": np.full(8, -1),
        "photos/focal_prior_px": np.full(8, np.nan),
    }
    monkeypatch.setattr(assembly.hdf5, "read", lambda *_: columns)


def mapped(folder, letters):
    """What mapping leaves of photographs that became one model."""
    colmap.write_model(folder / "0", small_model([f"{sha(letter)}.jpg" for letter in letters]))
    (folder / "summary.json").write_text(json.dumps({"models": [{}]}))
    return folder


def test_models_of_two_parts_carry_the_number_of_their_cluster(catalogue, monkeypatch, tmp_path):
    parts = [[*MEMBERS[:2], MEMBERS[4]], [MEMBERS[2], MEMBERS[3], MEMBERS[7]]]
    whole = {"photographs": sorted(parts[0] + parts[1]), "pairs": PAIRS[:2], "parts": parts}
    other = {"photographs": MEMBERS[5:7], "pairs": PAIRS[2:]}
    clusters = tmp_path / "clusters.json"
    clusters.write_text(json.dumps({"clusters": [whole, other], "cut": []}))
    models = {sha("c"): mapped(tmp_path / "2", "cdh"), sha("a"): mapped(tmp_path / "1", "abe")}
    attempts = [tuple(pair) for pair in PAIRS] + [(sha("a"), sha("f"))], np.array([30, 40, 50, 9])
    out = tmp_path / "scene.h5"
    monkeypatch.setattr(Scene, "to_h5", lambda scene, *_, **__: written.append(scene))
    written: list[Scene] = []
    assembly.build_scene(tmp_path, clusters, attempts, models, SceneOptions(), out)
    (scene,) = written
    assert scene.photos.cluster.tolist() == [0, 0, 0, 0, 0, 1, 1, 0]
    assert scene.models.cluster.tolist() == [0, 0]
    assert scene.photos.model.tolist() == [0, 0, 1, 1, 0, -1, -1, 1]
    assert scene.pairs.inliers.tolist() == [30, 40, 50]
    assert scene.attempts.inliers.tolist() == [30, 9, 40, 50]
