"""The declarations themselves: complete, consistent, and what docs/hdf5.md says."""

import subprocess
import sys
from pathlib import Path

import pytest

from storage.schemas import registry
from storage.schemas.docs import markdown
from storage.schemas.layout import Dataset, Layout, UnknownSchema, size_of, split_size
from storage.schemas.registry import all_layouts, layout

ROOT = Path(__file__).resolve().parents[3]
DECLARED = [(each, dataset) for each in all_layouts().values() for dataset in each.datasets]
IDS = [f"{each.name}:{dataset.path}" for each, dataset in DECLARED]


def sizes(each: Layout) -> set[str]:
    return {split_size(dim)[0] for dataset in each.datasets for dim in dataset.dims if isinstance(dim, str)}


def test_all_layouts_of_the_design_are_declared():
    expected = (
        "scan catalogue descriptors features pairs matches scene training_set training whitening evaluation "
        "benchmark search_index"
    )
    assert set(all_layouts()) == set(expected.split())


@pytest.mark.parametrize(("each", "dataset"), DECLARED, ids=IDS)
def test_a_declaration_is_complete_and_refers_to_what_exists(each, dataset):
    paths = {other.path for other in each.datasets}
    assert dataset.description
    assert not dataset.index or dataset.index in sizes(each)
    assert not dataset.csr or dataset.csr in sizes(each)
    assert not dataset.below or dataset.below in paths
    assert dataset.rows == "any" or any(other.csr == dataset.dims[0] for other in each.datasets)
    assert set(dataset.dtypes) <= {
        "str",
        "S64",
        "bool",
        *["int8", "int32", "int64", "uint8", "float16", "float32", "float64"],
    }
    for depth in range(1, dataset.path.count("/") + 1):
        group = "/".join(dataset.path.split("/")[:depth])
        assert group in each.groups, f"group {group} of {each.name} has no description"


@pytest.mark.parametrize("each", all_layouts().values(), ids=all_layouts())
def test_paths_are_unique_and_found(each):
    paths = [dataset.path for dataset in each.datasets]
    assert len(set(paths)) == len(paths)
    for dataset in each.datasets:
        item = tuple("x" for _ in dataset.item_keys)
        assert each.find(dataset.at(item)) == (dataset, item)


def test_an_item_path_is_matched_by_its_pattern():
    dataset = Dataset("{first}/{second}/matches0", ("n",), "int32", "")
    assert dataset.item_keys == ("first", "second")
    assert dataset.matches("a.jpg/b+c/matches0") == ("a.jpg", "b+c")
    assert dataset.matches("a/matches0") is None
    assert dataset.matches("a/b/c/matches0") is None
    assert dataset.at(("a", "b")) == "a/b/matches0"


def test_a_table_is_never_taken_for_an_item():
    assert layout("matches").find("attempts/first/matches0") is None
    assert layout("matches").reserved == {"attempts"}


def test_sizes_are_numbers_names_and_names_plus_a_number():
    assert size_of(3, {}) == 3
    assert size_of("R", {"R": 5}) == 5
    assert size_of("R+1", {"R": 5}) == 6
    assert size_of("R", {}) is None
    with pytest.raises(ValueError, match=r"size 'R-1'"):
        split_size("R-1")


def test_an_unknown_schema_is_named_with_the_nearest_one():
    with pytest.raises(UnknownSchema, match=r"'scenes' is not declared; did you mean 'scene'\?"):
        layout("scenes")
    with pytest.raises(UnknownSchema, match="known schemas: scan, catalogue"):
        layout("zzzzzz")


def test_a_version_is_current_older_or_refused(monkeypatch):
    old = Layout("kind", 1, "old", ())
    new = Layout("kind", 2, "new", (), previous=(old,))
    monkeypatch.setattr(registry, "all_layouts", lambda: {"kind": new})
    assert layout("kind") is new
    assert layout("kind", 1) is old
    with pytest.raises(UnknownSchema, match=r"has version 3, this package reads 2, 1; update this package"):
        layout("kind", 3)
    with pytest.raises(UnknownSchema, match=r"has version 0, .* rerun the stage"):
        layout("kind", 0)


def test_the_documentation_is_current():
    command = "python -m storage.schemas.docs > docs/hdf5.md"
    assert (ROOT / "docs" / "hdf5.md").read_text(encoding="utf-8") == markdown(), f"run {command}"


def test_the_documentation_names_every_dataset_and_its_promises():
    text = markdown()
    for each, dataset in DECLARED:
        assert f"| `{dataset.path}` |" in text
        assert f"## {each.name} (version {each.version})" in text
    assert "index into P; rising in each row" in text
    assert "[R+1]" in text


def test_the_module_prints_the_documentation():
    done = subprocess.run(
        [sys.executable, "-m", "storage.schemas.docs"], cwd=ROOT, capture_output=True, check=True
    )
    assert done.stdout.decode() == markdown()


def test_importing_storage_loads_no_library():
    code = "import sys, storage, storage.schemas.layout\n"
    code += "print([m for m in ('h5py', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_storage_offers_its_names_and_no_others():
    import storage

    assert {storage.describe.__name__, storage.open_artifact.__name__} == {"describe", "open_artifact"}
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        storage.nothing  # noqa: B018
