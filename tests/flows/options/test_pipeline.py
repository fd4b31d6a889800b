"""Every option counts, no resource does; the file, `--set` and the stage's own sections."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from flows.options.loading import default_config, load, load_stage
from flows.options.overrides import InvalidOption, option_keys
from flows.options.pipeline import PipelineOptions, PipelineResources, sections_of
from flows.options.stages import STAGES
from sfm.mapping.map import MappingFailed
from storage.keys.options import UnknownOption
from storage.store import ledger
from storage.store.store import Store
from tests.flows.recorded_work import RecordedWork, keys_of, without_files

OPTIONS, RESOURCES = PipelineOptions(), PipelineResources(dask_address="tcp://cluster:8786")
NEEDS = {
    "regional_whitening": {"regional": True},
    "whitening_file": {"whitening": True},
    "tokens": {"backbone": "timm:vit_small_patch14_dinov2"},
    "teacher_sizes": {"compared_with": "descriptors"},
    "own_views": {"compared_with": "descriptors", "augment_crop": 0.2},
    "augment_views": {"augment_crop": 0.2},
    "through_matches": {"compared_with": "descriptors"},
}
"""Options that are refused unless others of their section have these values."""
LISTS = {
    "selection.positions": ("list.csv", "name,easting,northing\na,1,2\n"),
    "selection.identities": ("list.csv", "name,identity\na,1\n"),
    "selection.cirtorch": ("list.pkl", "not read"),
}
"""Sections that count where `selection.list` is a list of their kind alone."""
Keys = set[tuple[str, str, str]]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store.create(tmp_path_factory.mktemp("store"), min_free_bytes=0)


@pytest.fixture(scope="module")
def plain(store: Store) -> Keys:
    with pytest.MonkeyPatch.context() as monkeypatch:
        without_files(monkeypatch)
        return keys_of(store, OPTIONS, RESOURCES, store.root)


def value_at(model: BaseModel, key: str) -> Any:
    for name in key.split("."):
        model = getattr(model, name)
    return model


def annotation_at(model: type[BaseModel], key: str) -> Any:
    *sections, name = key.split(".")
    for section in sections:
        model = type(getattr(model(), section))
    return model.model_fields[name].annotation


def with_value(model: Any, key: str, value: Any) -> Any:
    values = model.model_dump()
    *sections, name = key.split(".")
    target = values
    for section in sections:
        target = target[section]
    target[name] = value
    return type(model).model_validate(values)


def with_needed(model: Any, key: str) -> Any:
    """What an option of NEEDS is refused without."""
    name = key.rsplit(".", 1)[-1]
    for needed, value in NEEDS[name].items():
        model = with_value(model, key.replace(name, needed), value)
    return model


def other_values(value: Any, annotation: Any, file: Path) -> Iterator[Any]:
    """Values of a field's type that may be valid, the likeliest first."""
    kinds = [annotation, *get_args(annotation)]
    for kind in kinds:
        if get_origin(kind) is Literal:
            yield from (each for each in get_args(kind) if each != value)
    if isinstance(value, bool) or (value is None and bool in kinds):
        yield not value
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield from (value + 1, value - 1, value * 0.5, value * 1.5, value + 0.25)
    if isinstance(value, tuple):
        yield from (value[:-1], (*value, 0.123), (*value, 7), (*value, 64))
    if isinstance(value, str):
        yield from (f"{value}0", "timm:resnet18", 0.5)
    if value is None:
        yield from (2, 0.5, file, str(file))


def perturbed(model: Any, key: str, file: Path) -> Any:
    *_, name = key.split(".")
    if name in NEEDS:
        model = with_needed(model, key)
    before = value_at(model, key)
    for value in other_values(before, annotation_at(type(model), key), file):
        try:
            changed = with_value(model, key, value)
        except (ValidationError, ValueError):
            continue
        if value_at(changed, key) != before:
            return changed
    raise AssertionError(f"no other value for {key}; teach other_values its type")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file.bin"
    path.write_bytes(b"content")
    return path


@pytest.mark.parametrize("key", option_keys(PipelineOptions))
def test_every_option_changes_the_key_of_a_task_of_its_own_flow_or_a_later_one(
    key: str, store: Store, plain: Keys, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_files(monkeypatch)
    options = OPTIONS
    if key.rpartition(".")[0] in LISTS:
        name, text = LISTS[key.rpartition(".")[0]]
        file.with_name(name).write_text(text)
        options = with_value(OPTIONS, "selection.list", file.with_name(name))
        assert keys_of(store, perturbed(OPTIONS, key, file), RESOURCES, store.root) == plain
        plain = keys_of(store, options, RESOURCES, store.root)
    if key == "selection.list":
        file = file.rename(file.with_suffix(".pkl"))
    found = keys_of(store, perturbed(options, key, file), RESOURCES, store.root)
    name = key.rsplit(".", 1)[-1]
    if name in NEEDS:
        assert found != keys_of(store, with_needed(OPTIONS, key), RESOURCES, store.root)
    assert found != plain, f"{key} changes nothing: no task sees it"
    flow = next(stage for stage in STAGES if key.split(".")[0] in sections_of(stage))
    before = STAGES[: STAGES.index(flow)]
    if key == "selection.list":
        assert not {k for k in found if k[0] in before}, "nothing is reconstructed for a list"
        return
    assert {k for k in found if k[0] in before} == {k for k in plain if k[0] in before}


@pytest.mark.parametrize("key", option_keys(PipelineResources))
def test_no_resource_changes_a_key(
    key: str, store: Store, plain: Keys, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_files(monkeypatch)
    changed = perturbed(RESOURCES, key, file)
    photos = file.parent if key == "photos" else store.root
    assert keys_of(store, OPTIONS, changed, photos) == plain


@pytest.mark.parametrize("model", [PipelineOptions, PipelineResources])
def test_every_option_says_what_it_is(model: type[BaseModel]) -> None:
    for key in option_keys(model):
        *sections, name = key.split(".")
        owner: Any = model()
        for section in sections:
            owner = getattr(owner, section)
        assert type(owner).model_fields[name].description, f"{key} has no description"


def test_a_dumped_configuration_reads_back(tmp_path: Path) -> None:
    options, resources = load(None, ["training.epochs=7", "resources.device=cpu"])
    path = tmp_path / "all.yaml"
    path.write_text(
        yaml.safe_dump({**options.model_dump(mode="json"), "resources": resources.model_dump(mode="json")})
    )
    assert load(path, []) == (options, resources)


@pytest.mark.parametrize("key", option_keys(PipelineOptions))
def test_set_gives_every_option_the_value_that_was_written(key: str, file: Path) -> None:
    import json

    wanted = perturbed(load(None, [])[0], key, file)
    name = key.rsplit(".", 1)[-1]
    needed = [
        f"{key.replace(name, other)}={json.dumps(value)}" for other, value in NEEDS.get(name, {}).items()
    ]
    text = json.dumps(value_at(wanted, key), default=str)
    assert load(None, [*needed, f"{key}={text}"])[0] == wanted


def test_the_packaged_configuration_is_the_default(tmp_path: Path) -> None:
    assert load(None, []) == load(default_config(), [])
    empty = tmp_path / "empty.yaml"
    empty.write_text("")
    assert load(empty, []) == (OPTIONS, PipelineResources())


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("trainning.epochs=1", "training.epochs"),
        ("epochs=1", "training.epochs"),
        ("selection.pool=9", "selection.pool_k"),
        ("resources.devices=cpu", "resources.device"),
    ],
)
def test_an_unknown_key_names_the_nearest(text: str, nearest: str, tmp_path: Path) -> None:
    with pytest.raises(UnknownOption, match=f"did you mean '{nearest}'"):
        load(None, [text])
    *sections, name = text.split("=")[0].split(".")
    value: Any = 1
    for part in reversed([*sections, name]):
        value = {part: value}
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump(value))
    section = nearest.split(".")[0]
    with pytest.raises(UnknownOption, match=f"wrong.yaml.*did you mean '({nearest}|{section})'"):
        load(path, [])


def earlier_run(store: Store) -> str:
    options, resources = load(None, ["selection.pool_k=77", "training.epochs=9", "resources.device=cpu"])
    record = ledger.start(
        store, "town", options=options.model_dump(mode="json"), resources=resources.model_dump(mode="json")
    ).finished("completed")
    ledger.save(store, record)
    return record.id


def test_a_stage_takes_the_rest_from_the_earlier_run(store: Store, tmp_path: Path) -> None:
    run = earlier_run(store)
    options, resources = load_stage("select", None, ["selection.pool_k=5"], store=store.root, from_run=run)
    assert (options.selection.pool_k, options.training.epochs, resources.device) == (5, 9, "cpu")
    config = tmp_path / "mine.yaml"
    config.write_text("selection: {pool_k: 6}\ntraining: {epochs: 1}\n")
    options, _ = load_stage("select", config, [], store=store.root, from_run="latest")
    assert (options.selection.pool_k, options.training.epochs) == (6, 9)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_refuses_the_sections_of_others(stage: str, store: Store) -> None:
    run = earlier_run(store)
    for key in option_keys(PipelineOptions):
        if key.split(".")[0] not in sections_of(stage):
            with pytest.raises(InvalidOption, match=f"is not an option of {stage}; it takes"):
                load_stage(stage, None, [f"{key}=1"], store=store.root, from_run=run)


@pytest.mark.parametrize("leave_out", [False, True])
def test_clusters_that_fail_are_left_out_only_where_asked(
    leave_out: bool, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    tolerated = {}
    plainly = RecordedWork.fan_out

    def note(work: RecordedWork, task: Any, calls: Any, **arguments: Any) -> Any:
        tolerated[task.name] = arguments.get("tolerated")
        return plainly(work, task, calls, **arguments)

    monkeypatch.setattr(RecordedWork, "fan_out", note)
    without_files(monkeypatch)
    options = with_value(OPTIONS, "reconstruction.scene.leave_out_failed", leave_out)
    keys_of(store, options, RESOURCES, store.root)
    assert tolerated.pop("map_cluster") is (MappingFailed if leave_out else None)
    assert set(tolerated.values()) == {None}
