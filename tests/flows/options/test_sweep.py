"""A sweep's file: its combinations by hand, and every mistake found before anything runs."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.options.loading import default_config
from flows.options.overrides import InvalidConfig, InvalidOption, value_of
from flows.options.sweep import Column, InvalidSweep, Sweep, read_sweep
from storage.keys.options import MissingContent, UnknownOption

GRID = {"training.epochs": [1, 2]}


def read(folder: Path, sets: tuple[str, ...] = (), **content: Any) -> Sweep:
    (folder / "photos").mkdir(exist_ok=True)
    path = folder / "trial.yaml"
    path.write_text(yaml.safe_dump({"photos": "photos", **content}), encoding="utf-8")
    return read_sweep(path, sets=sets)


def test_products_of_every_grid_each_combination_once(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        grids=[
            {"training.positives": ["m1", "m3"], "training.seed": [0, 1]},
            {"training.loss": "triplet", "training.margin": [0.1, 0.5]},
            {"training.seed": 1},  # the base with another seed: in the first grid already
        ],
    )
    assert [each.number for each in found.combinations] == list(range(1, 7))
    assert found.keys == ("training.positives", "training.seed", "training.loss", "training.margin")
    assert [tuple(each.values.values()) for each in found.combinations] == [
        ("m1", 0, "contrastive", None),
        ("m1", 1, "contrastive", None),
        ("m3", 0, "contrastive", None),
        ("m3", 1, "contrastive", None),
        ("m3", 0, "triplet", 0.1),
        ("m3", 0, "triplet", 0.5),
    ]
    assert found.combinations[4].label == "positives m3, seed 0, loss triplet, margin 0.1"
    assert found.name == "trial" and found.photos == tmp_path / "photos"


def test_base_is_a_configuration_with_values_and_those_of_the_command(tmp_path: Path) -> None:
    base = {"config": "demo.yaml", "set": ["training.negatives=3"]}  # one that comes along
    found = read(tmp_path, ("training.negatives=4",), base=base, grids=[GRID])
    options = found.combinations[1].options
    assert options.selection.guards.guard_inliers == 15
    assert (options.training.negatives, options.training.epochs) == (4, 2)
    (tmp_path / "mine.yaml").write_text("training: {image_size: 96}\nresources: {threads: 1}\n")
    found = read(tmp_path, base={"config": "mine.yaml"}, grids=[GRID])
    assert found.combinations[0].options.training.image_size == 96 and found.resources.threads == 1


def test_options_that_are_valid_only_together(tmp_path: Path) -> None:
    grid = {"network.regional_whitening": True, "network.regional": True, "training.epochs": [1, 2]}
    found = read(tmp_path, grids=[grid])
    assert all(each.options.network.regional_whitening for each in found.combinations)
    assert found.keys == ("training.epochs",)  # the others do not differ


def test_a_value_that_is_a_list_stands_in_a_list(tmp_path: Path) -> None:
    found = read(tmp_path, grids=[{"description.multi_scales": [[1.0], [1.0, 0.5]]}])
    assert [value_of(each.options, found.keys[0]) for each in found.combinations] == [(1.0,), (1.0, 0.5)]


def test_equal_prefixes_are_shared_work(tmp_path: Path) -> None:
    grids = [{"training.seed": [0, 1], "whitening.positives": ["m2", "m3"]}]
    first, second, third, _ = read(tmp_path, grids=grids).combinations
    assert first.prefix("select") == third.prefix("select")
    assert first.prefix("finetune") == second.prefix("finetune") != third.prefix("finetune")
    assert first.prefix("whiten") != second.prefix("whiten")


def test_options_of_one_name_are_told_apart(tmp_path: Path) -> None:
    grids = [
        {"training.positives": ["m1", "m2"], "whitening.positives": ["m2", "m3"], "training.seed": [0, 1]}
    ]
    label = read(tmp_path, grids=grids).combinations[0].label
    assert label == "training.positives m1, seed 0, whitening.positives m2"


def test_columns(tmp_path: Path) -> None:
    assert read(tmp_path, grids=[GRID]).columns == (Column("fine-tuned", "lw", "single"),)
    columns = ["off-the-shelf raw multi", "fine-tuned pcaw single"]
    found = read(tmp_path, grids=[GRID], columns=columns).columns
    assert list(map(str, found)) == ["off-the-shelf raw multi", "fine-tuned PCAw single"]


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ({}, InvalidOption, "grids: Field required"),
        ({"grids": []}, InvalidOption, "grids: List should have at least 1 item"),
        ({"grids": [GRID], "colums": ["x"]}, UnknownOption, "did you mean 'columns'"),
        ({"grids": [GRID, {"training.epoch": [1]}]}, UnknownOption, "grid 2.*'training.epochs'"),
        ({"grids": [{"training.epochs": [1, 0]}]}, InvalidOption, r"grid 1 \(training.epochs=0\)"),
        ({"grids": [{"training.epochs": []}]}, InvalidSweep, "training.epochs has no values"),
        ({"grids": [{"training": {"epochs": [1]}}]}, UnknownOption, "'training' is a section"),
        ({"grids": [{"network.regional_whitening": True}]}, InvalidOption, "regional_whitening=true without"),
        ({"grids": [{3: [1]}]}, InvalidOption, "grids"),
        ({"grids": [GRID], "base": {"set": ["training.epochs"]}}, InvalidOption, "key=value"),
        ({"grids": [GRID], "base": {"config": "none.yaml"}}, InvalidConfig, "none.yaml: No such file"),
        ({"grids": [GRID], "columns": ["fine-tuned lw"]}, InvalidSweep, "'fine-tuned lw': write network"),
        ({"grids": [GRID], "columns": ["tuned lw single"]}, InvalidSweep, "off-the-shelf|fine-tuned"),
        ({"grids": [GRID], "photos": "gone"}, InvalidSweep, "gone' is no folder"),
        ({"grids": [GRID], "photos": None}, InvalidSweep, "no photographs; add"),
        (
            {"grids": [{"description.multi_scales": [[1.0]]}], "columns": ["fine-tuned lw multi"]},
            InvalidSweep,
            "asks for several scales",
        ),
        ({"grids": [{"network.weights_file": ["gone.pth"]}]}, MissingContent, "'gone.pth' does not exist"),
    ],
)
def test_mistakes_are_named(
    content: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        read(tmp_path, **content)


def test_a_missing_package_is_found_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retrieval.networks.options.find_spec", lambda name: None)
    with pytest.raises(InvalidOption, match=r"grid 1 .*'timm'; install retrieval-sfm\[timm\]"):
        read(tmp_path, grids=[{"network.backbone": "timm:resnet18"}])


def test_the_paper_s_ablations(tmp_path: Path) -> None:
    """Every axis that the paper varies is there, and the file says how many combinations it makes."""
    path = default_config().parent / "sweep_paper.yaml"
    found = read_sweep(path, tmp_path)
    varied = {key: {str(each.values[key]) for each in found.combinations} for key in found.keys}
    assert varied["training.positives"] == {"m1", "m2", "m3"}
    assert varied["training.one_per_cluster"] == {"False", "None"}
    assert varied["network.pooling"] == {"gem", "gem_per_channel", "mac", "spoc", "rmac"}
    assert varied["training.loss"] == {"contrastive", "triplet"}
    assert {"training.seed", "training.gem_p_rate", "whitening.positives"} <= set(varied)
    trainings = {each.prefix("finetune") for each in found.combinations}
    assert f"{len(found.combinations)} combinations, {len(trainings)} trainings" in path.read_text()
