"""Options from files and from key=value."""

from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field

from flows.options.overrides import (
    InvalidConfig,
    InvalidOption,
    apply_overrides,
    from_mapping,
    load_config,
    option_keys,
)
from flows.options.pipeline import PipelineResources
from storage.keys.options import ContentPath, MarkedPath, Options, UnknownOption


class Optimiser(Options):
    rate: float = Field(1e-3, gt=0)
    kind: Literal["adam", "off"] = "adam"


class Training(Options):
    epochs: int = Field(10, ge=1)
    scales: tuple[float, ...] = (1.0,)
    name: str = "gem"
    note: str | None = None
    deterministic: bool = True
    optimiser: Optimiser = Optimiser()
    weights: ContentPath | None = None


class Selection(Options):
    epochs_of_pool: int = 1
    seed: int = 0


class Pipeline(Options):
    training: Training = Training()
    selection: Selection | None = Selection()


def test_keys_are_dotted_in_the_order_of_the_models() -> None:
    assert option_keys(Pipeline) == [
        "training.epochs",
        "training.scales",
        "training.name",
        "training.note",
        "training.deterministic",
        "training.optimiser.rate",
        "training.optimiser.kind",
        "training.weights",
        "selection.epochs_of_pool",
        "selection.seed",
    ]


@pytest.mark.parametrize(
    ("text", "section", "expected"),
    [
        ("training.epochs=3", "training", {"epochs": 3}),
        ("training.epochs = 3", "training", {"epochs": 3}),
        ("training.scales=[1, 0.7071]", "training", {"scales": (1.0, 0.7071)}),
        ("training.name=123", "training", {"name": "123"}),
        ("training.name=a=b", "training", {"name": "a=b"}),
        ("training.note=null", "training", {"note": None}),
        ("training.deterministic=false", "training", {"deterministic": False}),
        ("training.optimiser.rate=1e-6", "training", {"optimiser": Optimiser(rate=1e-6)}),
        ("training.optimiser.kind=off", "training", {"optimiser": Optimiser(kind="off")}),
        ("selection.seed=7", "selection", {"seed": 7}),
    ],
)
def test_a_value_is_read_as_its_option_needs_it(text: str, section: str, expected: dict[str, object]) -> None:
    changed = getattr(apply_overrides(Pipeline(), [text]), section)
    assert {name: getattr(changed, name) for name in expected} == expected


def test_the_last_one_wins_and_the_rest_stays() -> None:
    start = Pipeline(training=Training(name="mac", epochs=5))
    changed = apply_overrides(start, ["training.epochs=3", "training.epochs=4"])
    assert changed == Pipeline(training=Training(name="mac", epochs=4))
    assert apply_overrides(start, []) is start


def test_a_content_path_stays_one(tmp_path: Path) -> None:
    changed = apply_overrides(Pipeline(), [f"training.weights={tmp_path}", "training.epochs=2"])
    assert isinstance(changed.training.weights, MarkedPath)


@pytest.mark.parametrize(
    ("key", "suggestion"),
    [
        ("training.epoch", "training.epochs"),
        ("epochs", "training.epochs"),
        ("trianing.epochs", "training.epochs"),
        ("train.optimiser.rate", "training.optimiser.rate"),
        ("sed", "selection.seed"),
    ],
)
def test_an_unknown_key_names_the_nearest(key: str, suggestion: str) -> None:
    with pytest.raises(UnknownOption, match=f"no option '{key}'; did you mean '{suggestion}'"):
        apply_overrides(Pipeline(), [f"{key}=3"])


def test_nothing_alike_points_to_the_list() -> None:
    with pytest.raises(UnknownOption, match=r"no option 'zzz'; `--help` and configs/default.yaml"):
        apply_overrides(Pipeline(), ["zzz=3"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training.epochs", "write it as key=value"),
        ("=3", "write it as key=value"),
        (
            "training.epochs=0",
            "training.epochs=0: training.epochs: Input should be greater",
        ),
        ("training.epochs=many", "valid integer"),
        ("training.optimiser.kind=sgd", "'adam' or 'off'"),
    ],
)
def test_a_bad_value_says_where(text: str, message: str) -> None:
    with pytest.raises(InvalidOption, match=message):
        apply_overrides(Pipeline(), [text])


def test_a_section_is_no_option() -> None:
    with pytest.raises(UnknownOption, match="'training' is a section; set one of its options, such as"):
        apply_overrides(Pipeline(), ["training=3"])


def test_a_file_gives_nested_values(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("training:\n  epochs: 3\n  optimiser: {rate: 1.0e-5}\n")
    assert from_mapping(Pipeline, load_config(path), "c.yaml").training == Training(
        epochs=3, optimiser=Optimiser(rate=1e-5)
    )
    path.write_text("")
    assert load_config(path) == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("training: {epoch: 3}", "'training.epoch'; did you mean 'training.epochs'"),
        ("trainings: {epochs: 3}", "'trainings'"),
        ("training: 3", "'training' is a section"),
    ],
)
def test_an_unknown_key_in_a_file_is_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(content)
    with pytest.raises(UnknownOption, match=message):
        from_mapping(Pipeline, load_config(path), "c.yaml")


@pytest.mark.parametrize(
    ("content", "message"),
    [("a: [", "is not YAML"), ("- 1\n", "holds a list"), ("\xff\xfea", "not UTF-16")],
)
def test_a_file_that_is_no_configuration(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(InvalidConfig, match=message):
        load_config(path)
    with pytest.raises(InvalidConfig, match="give an existing text file"):
        load_config(tmp_path / "absent.yaml")


def test_options_that_need_each_other_may_come_in_any_order() -> None:
    pair = ["runner=dask", "dask_address=tcp://here:8786"]
    for sets in (pair, pair[::-1]):
        found = apply_overrides(PipelineResources(), sets)
        assert (found.runner, found.dask_address) == ("dask", "tcp://here:8786")
    with pytest.raises(InvalidOption, match="needs a cluster"):
        apply_overrides(PipelineResources(), ["processes=2", "runner=dask"])
    assert apply_overrides(PipelineResources(), ["processes=2", "processes=3"]).processes == 3
