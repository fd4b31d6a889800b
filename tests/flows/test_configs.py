"""The configuration files that come with the package."""

from pathlib import Path
from typing import get_args

import pytest
import yaml

from flows.options.forms import ConfigName
from flows.options.loading import default_config, load
from flows.options.pipeline import PipelineOptions
from town.demo import CONFIG

FOLDER = default_config().parent
PAPER = ("paper_vgg16.yaml", "paper_resnet101.yaml")
SWEEP = "sweep_paper.yaml"  # no configuration: tests/flows/options/test_sweep.py


@pytest.mark.parametrize("path", sorted(FOLDER.glob("[!s]*.yaml")), ids=lambda path: path.name)
def test_every_file_loads_and_says_something(path: Path) -> None:
    options, _ = load(path, [])
    assert isinstance(options, PipelineOptions) and options != PipelineOptions()


def test_the_files_are_all_there() -> None:
    expected = {"default.yaml", "demo.yaml", "landmarks.yaml", *PAPER, SWEEP}
    assert {path.name for path in FOLDER.glob("*.yaml")} == expected
    assert FOLDER / "demo.yaml" == CONFIG
    assert {f"{name}.yaml" for name in get_args(ConfigName)} | {SWEEP} == expected


def test_a_file_names_only_what_differs_from_the_defaults_or_the_paper() -> None:
    """The demo is small: every number of its file is another one than the default."""
    options, _ = load(CONFIG, [])
    for section, values in yaml.safe_load(CONFIG.read_text()).items():
        for key, value in values.items():
            if not isinstance(value, dict):
                default = getattr(getattr(PipelineOptions(), section), key)
                assert getattr(getattr(options, section), key) == value != default, f"{section}.{key}"
