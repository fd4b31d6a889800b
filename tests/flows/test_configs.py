"""The configuration files that come with the package."""

from pathlib import Path

import pytest
import yaml

from flows.demo import CONFIG
from flows.options import PipelineOptions, default_config, load
from retrieval.finetuning import MARGINS
from retrieval.network_options import NetworkOptions

FOLDER = default_config().parent
PAPER = ("paper_vgg16.yaml", "paper_resnet101.yaml")


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.name)
def test_every_file_loads_and_says_something(path: Path) -> None:
    options, _ = load(path, [])
    assert isinstance(options, PipelineOptions) and options != PipelineOptions()


def test_the_files_are_all_there() -> None:
    assert {path.name for path in FOLDER.glob("*.yaml")} == {"default.yaml", "demo.yaml", *PAPER}
    assert FOLDER / "demo.yaml" == CONFIG


@pytest.mark.parametrize("name", PAPER)
def test_the_paper_is_as_published(name: str) -> None:
    options, _ = load(FOLDER / name, [])
    training, backbone = options.training, options.network.backbone
    assert (training.image_size, training.queries_per_epoch, training.pool_size) == (362, 2000, 22000)
    assert (training.negatives, training.one_per_cluster, training.positives) == (5, True, "m3")
    assert (training.tuples_per_step, training.loss, training.optimizer) == (5, "contrastive", "adam")
    margin = next(value for prefix, value in MARGINS.items() if backbone.startswith(prefix))
    assert training.margin == margin
    assert options.selection.query_fraction == 0.1
    assert options.description.image_size == 1024
    assert options.whitening.shrinkage_grid == (0.0,)
    assert options.network == NetworkOptions(backbone=backbone)
    rates = {"vgg16": (1e-6, 5e-4), "resnet101": (5e-7, 1e-6)}
    assert (training.learning_rate, training.weight_decay) == rates[backbone]


def test_a_file_names_only_what_differs_from_the_defaults_or_the_paper() -> None:
    """The demo is small: every number of its file is another one than the default."""
    options, _ = load(CONFIG, [])
    for section, values in yaml.safe_load(CONFIG.read_text()).items():
        for key, value in values.items():
            if not isinstance(value, dict):
                default = getattr(getattr(PipelineOptions(), section), key)
                assert getattr(getattr(options, section), key) == value != default, f"{section}.{key}"
