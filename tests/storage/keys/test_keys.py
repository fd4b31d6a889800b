import time
from importlib import metadata

import pytest

from storage.files.digests import json_sha256
from storage.keys import keys
from storage.keys.code import source_path
from storage.keys.keys import (
    WrongInput,
    code_differences,
    family_key,
    key_parts,
    package_versions,
    parts_meaning,
    schema_version,
    stage_key,
)
from storage.keys.options import ContentPath, Options, Resources
from storage.keys.stages import Stage
from storage.schemas.registry import layout


class ToyOptions(Options):
    epochs: int = 3
    rate: float = 0.1
    weights: ContentPath | None = None


class ToyResources(Resources):
    device: str = "cpu"


STAGE = Stage(
    name="toy", version=2, suffix=".h5", schema_name="scene", packages=("numpy",), code="storage.files.whole"
)


def test_parts_by_hand():
    parts = key_parts(STAGE, ToyOptions(), ["a" * 64])
    assert set(parts) == {
        "format",
        "stage",
        "version",
        "schema",
        "artifact",
        "options",
        "inputs",
        "packages",
        "code",
    }
    assert (parts["stage"], parts["version"], parts["artifact"]) == ("toy", 2, ["file", ".h5"])
    assert parts["schema"] == ["scene", layout("scene").version]
    assert parts["options"] == {"epochs": 3, "rate": 0.1, "weights": None}
    assert parts["packages"] == {"numpy": metadata.version("numpy")}
    assert list(parts["code"]) == ["storage.files.whole"]
    assert stage_key(STAGE, ToyOptions(), ["a" * 64]) == json_sha256(parts)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"version": 3},
        {"suffix": ".hdf5"},
        {"schema_name": "pairs"},
        {"packages": ("numpy", "h5py")},
        {"code": "storage.files.locks"},
    ],
)
def test_every_part_of_a_stage_counts(change):
    assert stage_key(STAGE.model_copy(update=change), ToyOptions(), []) != stage_key(STAGE, ToyOptions(), [])


def test_every_option_counts_and_no_resource(tmp_path):
    (tmp_path / "w").write_text("x")
    perturbed = {"epochs": 4, "rate": 0.2, "weights": tmp_path / "w"}
    assert set(perturbed) == set(ToyOptions.model_fields)
    found = {stage_key(STAGE, ToyOptions(**{name: value}), []) for name, value in perturbed.items()}
    assert len(found | {stage_key(STAGE, ToyOptions(), [])}) == len(perturbed) + 1
    assert "device" not in repr(key_parts(STAGE, ToyOptions(), []))
    assert ToyResources(device="cuda:1").device not in repr(key_parts(STAGE, ToyOptions(), []))


def test_inputs_count_with_their_order():
    variants = [[], ["a"], ["b"], ["a", "b"], ["b", "a"], ["a", "a"]]
    assert len({stage_key(STAGE, ToyOptions(), inputs) for inputs in variants}) == len(variants)
    assert len({family_key(STAGE, ToyOptions())}) == 1


@pytest.mark.parametrize("wrong", ["abc", [1], [None], [""]])
def test_wrong_inputs(wrong):
    with pytest.raises(WrongInput, match="'toy'"):
        key_parts(STAGE, ToyOptions(), wrong)


def test_comment_keeps_the_key_and_code_changes_it(make_package):
    stage = STAGE.model_copy(update={"code": f"{make_package({'a': 'x = 1'})}.a"})
    path = source_path(stage.code)
    before, parts = stage_key(stage, ToyOptions(), []), key_parts(stage, ToyOptions(), [])
    path.write_text('"""Documented."""\nx = 1  # commented')
    assert stage_key(stage, ToyOptions(), []) == before
    path.write_text("x = 22")
    assert stage_key(stage, ToyOptions(), []) != before
    assert parts_meaning(key_parts(stage, ToyOptions(), [])) == parts_meaning(parts)
    assert code_differences(parts, key_parts(stage, ToyOptions(), [])) == (f"{stage.code} changed",)


def test_package_versions_and_their_differences(monkeypatch):
    assert package_versions(["no-such-distribution"]) == {"no-such-distribution": "absent"}
    old = key_parts(STAGE, ToyOptions(), [])
    monkeypatch.setattr(keys, "_package_version", lambda name: "99.0")
    new = key_parts(STAGE.model_copy(update={"code": "storage.files.locks"}), ToyOptions(), [])
    assert code_differences(old, new) == (
        f"numpy {metadata.version('numpy')} -> 99.0",
        "storage.files.locks new",
        "storage.files.whole gone",
    )
    assert code_differences(new, new) == ()


def test_schema_version():
    assert schema_version(None) is None
    assert schema_version("scene") == layout("scene").version


def test_a_key_is_fast():
    def seconds() -> float:
        start = time.perf_counter()
        stage_key(STAGE, ToyOptions(), ["a" * 64] * 10)
        return time.perf_counter() - start

    assert min(seconds() for _ in range(20)) < 1e-3
