"""The presets of the paper, number by number."""

import math
from typing import Any

import pytest
import yaml

from flows.options.loading import default_config, load
from flows.options.overrides import value_of

BOTH: dict[str, Any] = {
    "network.weights": "imagenet",
    "network.pooling": "gem",
    "network.gem_p": 3.0,
    "network.regional": False,
    "network.local_whitening": False,
    "network.whitening": False,
    "selection.pool_k": 100,
    "selection.min_overlap": 0.2,
    "selection.max_scale_change": 1.5,
    "selection.query_fraction": 0.1,
    "selection.min_queries_per_model": 1,
    "selection.max_queries_per_model": 30,
    "training.image_size": 362,
    "training.pool_size": 22_000,
    "training.positives": "m3",
    "training.redraw_positives": False,
    "training.negatives": 5,
    "training.one_per_cluster": True,
    "training.verify_negatives": False,
    "training.loss": "contrastive",
    "training.optimizer": "adam",
    "training.gem_p_rate": 10.0,
    "training.tuples_per_step": 5,
    "training.early_stopping": None,
    "training.precision": "float32",
    "training.draft": False,
    "description.image_size": 1024,
    "description.multi_scales": (1.0, math.sqrt(0.5), 0.5),
    "whitening.positives": "m3",
    "whitening.shrinkage_grid": (0.0,),
    "evaluation.expansion_neighbours": 50,
    "evaluation.expansion_alpha": 3.0,
}
OWN: dict[str, dict[str, Any]] = {
    "paper_vgg16.yaml": {
        "network.backbone": "vgg16",
        "training.epochs": 30,
        "training.queries_per_epoch": 6_000,
        "training.minings_per_epoch": 3,
        "training.margin": 0.75,
        "training.learning_rate": 1e-6,
        "training.weight_decay": 5e-4,
        "training.schedule": "exponential_matlab",
    },
    "paper_resnet101.yaml": {
        "network.backbone": "resnet101",
        "training.epochs": 100,
        "training.queries_per_epoch": 2_000,
        "training.minings_per_epoch": 1,
        "training.margin": 0.85,
        "training.learning_rate": 5e-7,
        "training.weight_decay": 1e-6,
        "training.schedule": "exponential",
    },
}


@pytest.mark.parametrize("name", OWN)
def test_every_number(name: str) -> None:
    options, _ = load(default_config().parent / name, [])
    found = {key: value_of(options, key) for key in BOTH | OWN[name]}
    assert found == BOTH | OWN[name]


@pytest.mark.parametrize("name", OWN)
def test_nothing_else_is_set(name: str) -> None:
    """What a file sets is compared above, so that no number slips in unseen."""
    sections = yaml.safe_load((default_config().parent / name).read_text(encoding="utf-8"))
    keys = {f"{section}.{key}" for section, values in sections.items() for key in values}
    assert keys <= set(BOTH | OWN[name])


@pytest.mark.parametrize(
    ("name", "epoch", "rate"),
    [
        ("paper_vgg16.yaml", 1, 1e-6),
        ("paper_vgg16.yaml", 11, 1e-6 * math.exp(-1)),
        ("paper_resnet101.yaml", 1, 5e-7 * math.exp(-0.01)),
        ("paper_resnet101.yaml", 100, 5e-7 * math.exp(-1)),
    ],
)
def test_the_learning_rate_falls_as_published(name: str, epoch: int, rate: float) -> None:
    """PyTorch: stepped before the epoch; MATLAB: the first epoch has the whole rate."""
    options, _ = load(default_config().parent / name, [])
    assert options.training.rate_at(epoch) == pytest.approx(rate, rel=1e-12)
