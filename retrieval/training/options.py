"""Fine-tuning as a stage: its options, its identity, its step. Light: torch is imported by the step only."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from retrieval.benchmarks.val import Database, Mean, Queries
from retrieval.describe.options import STAGE as EXTRACTION
from retrieval.describe.options import Precision
from storage.keys.options import Options, Resources
from storage.keys.stages import Stage

Strategy = Literal["m1", "m2", "m3"]
Phase = Literal["describing", "training", "validating"]
DEFAULT_NEGATIVES = 5
MARGINS = {"alexnet": 0.7, "vgg": 0.75, "resnet": 0.85}
"""Contrastive margins of the paper, by the beginning of the backbone's name."""
OTHER_MARGIN = 0.95
"""efficientnet_lite0 and the rest: off the shelf, hard negatives of photographs of places lie at 0.85 to
0.95."""


class TrainingOptions(Options):
    """What the network learns from, and how."""

    image_size: int = Field(362, ge=32, description="longer side of the training photographs in px")
    epochs: int = Field(
        5, ge=1, description="passes over the drawn queries; raising it continues a finished training"
    )
    queries_per_epoch: int | None = Field(400, ge=1, description="queries drawn for each epoch; none: all")
    minings_per_epoch: int = Field(
        1, ge=1, description="parts of an epoch's queries; each is mined with the network of the moment"
    )
    pool_size: int | None = Field(
        22000, ge=1, description="photographs drawn to mine negatives from; none: all"
    )
    trainable: Literal["all", "last", "projection"] = Field(
        "all",
        description="what is trained: the whole network, the last stages of its trunk and what follows them, "
        "or a linear layer after its pooling that begins as Lw, from descriptors that are computed once",
    )
    trainable_stages: int = Field(
        3, ge=0, description="stages or blocks of the trunk that are `last`; 0: what follows the trunk alone"
    )
    projection_dimensions: int | None = Field(
        None, ge=1, description="dimensions that such a layer keeps; none: all"
    )
    positives: Strategy = Field(
        "m3", description="m1: nearest descriptor, m2: most shared points, m3: a random one of enough overlap"
    )
    positives_per_tuple: int = Field(
        1, ge=1, description="m3: different positives of a query in its tuple, as far as it has them"
    )
    overlap_order: Literal["any", "easy_to_hard"] = Field(
        "any",
        description="m3: from which of a query's positives is drawn: all, or from band to band over the "
        "epochs, those that overlap most first",
    )
    through_model: float = Field(
        0.0,
        ge=0,
        le=1,
        description="m3: probability that a positive is one of the query's model that m3 leaves out: of less "
        "overlap, another scale, or that shares points only with a photograph that shares some with it",
    )
    through_matches: float = Field(
        0.0,
        ge=0,
        le=1,
        description="m3: probability that a positive is one that matching verified and the query's model "
        "lacks; above 0 photographs without a model are queries too, as many again at most; with "
        "compared_with=descriptors",
    )
    positive_weights: Literal["equal", "overlap"] = Field(
        "equal", description="what a positive weighs in the loss: all the same, or its overlap with the query"
    )
    redraw_positives: bool = Field(
        True, description="m3: draw again every epoch; else once, as in the published lists"
    )
    negatives: int | None = Field(
        None,
        ge=1,
        description=f"hard negatives of a query; none: {DEFAULT_NEGATIVES}, fewer where clusters are missing",
    )
    one_per_cluster: bool | None = Field(
        None,
        description="at most one negative of a cluster (N2); none: true, given up where clusters are missing",
    )
    negative_mining: Literal["hard", "random"] = Field(
        "hard", description="negatives: the nearest to the query by the network of the moment, or any"
    )
    memory: int = Field(
        0,
        ge=0,
        description="photographs whose last descriptors are further negatives of every tuple (their number "
        "is beside those of `negatives`); 0: none",
    )
    compared_with: Literal["photographs", "descriptors"] = Field(
        "photographs",
        description="what a query is compared with: its positives and hard negatives, which pass the network "
        "with it, or the descriptors that mining gave of its positives and of the whole pool: one pass",
    )
    teacher_sizes: tuple[Annotated[int, Field(ge=32)], ...] = Field(
        (),
        description="longer sides in px at which the network before training describes the photographs once; "
        "the sum of these descriptors is what a query is compared with from then on, so that nothing moves "
        "away together and larger photographs teach; (): what each mining gives; with "
        "compared_with=descriptors",
    )
    own_views: int = Field(
        0,
        ge=0,
        description="photographs of the pool, drawn for each epoch, that are queries too: a changed view "
        "(augment_*) is to find the photograph itself; with compared_with=descriptors",
    )
    verify_negatives: bool = Field(
        True, description="match hard negatives as near as the query's positives before they are used"
    )
    verify_inliers: int = Field(
        8, ge=1, description="inliers from which such a negative's cluster may show the query's place"
    )
    verify_photographs: int = Field(
        3, ge=1, description="photographs of the query's cluster that such a negative is matched to"
    )
    loss: Literal[
        "contrastive", "triplet", "multi_similarity", "smooth_ap", "supervised_contrastive", "info_nce"
    ] = Field("contrastive", description="loss of a tuple; the first two have a margin")
    temperature: float | None = Field(
        None,
        gt=0,
        description="of smooth_ap (none: 0.01), supervised_contrastive and info_nce (none: 0.07); the lower, "
        "the more the nearest count",
    )
    loss_on: Literal["pooled", "whitened"] = Field(
        "pooled",
        description="descriptors that loss and mining see: as they are pooled, or after Lw, which is learnt "
        "before training, stays as it is and is taken off afterwards; val sees each epoch after its own Lw",
    )
    margin: float | None = Field(
        None,
        gt=0,
        description="distance from which negatives count no more; none: the paper's for the backbone",
    )
    optimizer: Literal["adam", "adamw", "sgd"] = Field("adam", description="rule of the update")
    learning_rate: float = Field(1e-5, gt=0, description="before the schedule; GeM's p learns faster")
    weight_decay: float = Field(1e-6, ge=0, description="pull towards zero; none on GeM's p")
    momentum: float = Field(0.9, ge=0, lt=1, description="of sgd")
    schedule: Literal["exponential", "exponential_matlab", "constant", "cosine"] = Field(
        "exponential",
        description="learning rate x exp(-0.01 epoch), x exp(-0.1 (epoch - 1)), unchanged, or half a cosine "
        "from 1 to 0 over training.epochs",
    )
    gem_p_rate: float = Field(
        10.0, ge=0, description="learning rate of GeM's p / learning rate; x10 again per channel"
    )
    tuples_per_step: int = Field(5, ge=1, description="tuples whose gradients are summed for one update")
    val_queries: Queries = "models"
    val_database: Database = "val"
    val_mean: Mean = "queries"
    early_stopping: int | None = Field(
        None, ge=1, description="epochs without a better val mAP before it stops"
    )
    average: Literal["none", "steps", "epochs"] = Field(
        "none",
        description="the network that is measured and kept: as trained, or a mean of its weights over steps "
        "(EMA) or over epochs (SWA)",
    )
    average_decay: float = Field(
        0.99, gt=0, lt=1, description="what a step leaves of the mean over steps; the rest is the new weights"
    )
    off_the_shelf_shares: tuple[Annotated[float, Field(ge=0, lt=1)], ...] = Field(
        (0.0,),
        min_length=1,
        description="shares of the network before training in the weights of the one that is kept; the best "
        "on val wins, of equal ones the largest",
    )
    augment_scale: float = Field(
        1.0, gt=0, le=1, description="training photographs are scaled by a random factor from this to 1"
    )
    augment_crop: float = Field(
        0.0, ge=0, lt=1, description="largest share of each side that is cut off training photographs"
    )
    augment_colour: float = Field(
        0.0, ge=0, lt=1, description="brightness, contrast, saturation of training photographs: x 1 -+ this"
    )
    augment_views: int | None = Field(
        None,
        ge=1,
        description="so many changed views of a photograph beside itself, always the same; none: another one "
        "each time. What frozen layers (trainable=last) make of a view is computed once",
    )
    precision: Precision = Field("float32", description="arithmetic inside the trunk")
    draft: bool = Field(False, description="let the JPEG decoder skip resolution that is not needed")
    seed: int = Field(0, ge=0, description="draws queries, pools and positives")

    @property
    def described_at(self) -> tuple[int, ...]:
        """Longer sides in px at which it begins with descriptors of the whole training set by the network
        before training."""
        if self.teacher_sizes:
            return self.teacher_sizes
        return (self.image_size,) if self.trainable == "projection" or self.loss_on == "whitened" else ()

    def margin_for(self, backbone: str) -> float:
        """The margin in force for a backbone."""
        if self.margin is not None:
            return self.margin
        if self.loss == "triplet":
            return 0.5
        plain = backbone.removeprefix("timm:")
        return next((value for name, value in MARGINS.items() if plain.startswith(name)), OTHER_MARGIN)

    @property
    def augments(self) -> bool:
        """Whether training photographs are changed at random."""
        return self.augment_scale < 1 or self.augment_crop > 0 or self.augment_colour > 0

    def rate_at(self, epoch: int) -> float:
        """Learning rate of an epoch (from 1). The schedule steps before the epoch, as in the published
        code."""
        factor = {
            "exponential": math.exp(-0.01 * epoch),
            "exponential_matlab": math.exp(-0.1 * (epoch - 1)),
            "constant": 1.0,
            "cosine": (1 + math.cos(math.pi * (epoch - 1) / self.epochs)) / 2,
        }[self.schedule]
        return self.learning_rate * factor

    def resumable(self) -> TrainingOptions:
        """The same training without its length: two that agree here can share checkpoints."""
        given: dict[str, Any] = {"early_stopping": None, "off_the_shelf_shares": (0.0,)}
        if self.overlap_order == "any" and self.schedule != "cosine":  # else an epoch depends on the number
            given["epochs"] = 1
        return self.model_copy(update=given)

    @model_validator(mode="after")
    def _choices_agree(self) -> TrainingOptions:
        of_m3 = {
            "positives_per_tuple": 1,
            "overlap_order": "any",
            "through_model": 0.0,
            "through_matches": 0.0,
        }
        for name, plain in of_m3.items():
            if self.positives != "m3" and getattr(self, name) != plain:
                raise ValueError(
                    f"{name}={getattr(self, name)} with positives={self.positives}: only m3 has it"
                )
        if self.trainable == "projection" and self.augments:
            raise ValueError(
                "augment_* with trainable=projection: it learns from descriptors that are computed once; "
                "leave them out, or train more than the projection"
            )
        if self.trainable == "projection" and self.loss_on == "whitened":
            raise ValueError(
                "loss_on=whitened with trainable=projection: a projection begins as Lw; leave loss_on out"
            )
        if self.own_views and not (self.augments and self.compared_with == "descriptors"):
            raise ValueError(
                "own_views needs compared_with=descriptors and augment_*: a photograph that is not changed "
                "finds itself"
            )
        if self.compared_with == "descriptors" and self.negative_mining == "random":
            raise ValueError(
                "negative_mining=random with compared_with=descriptors: the whole pool is compared with, "
                "nothing is drawn; choose one"
            )
        if self.compared_with == "descriptors" and self.memory:
            raise ValueError(
                "memory with compared_with=descriptors: the whole pool is compared with; leave memory out"
            )
        if self.teacher_sizes and (self.compared_with == "photographs" or self.trainable == "projection"):
            raise ValueError(
                "teacher_sizes needs compared_with=descriptors, and more to train than a projection, which "
                "sees no photograph"
            )
        if self.augment_views and not self.augments:
            raise ValueError("augment_views without augment_*: nothing is changed; say what, or leave it out")
        if self.through_matches and self.compared_with == "photographs":
            raise ValueError(
                "through_matches needs compared_with=descriptors: for what no model holds nothing is mined"
            )
        if (self.through_model or self.through_matches) and self.positive_weights == "overlap":
            raise ValueError(
                "through_model or through_matches with positive_weights=overlap: what shares no point has no "
                "overlap; choose one"
            )
        return self


class TrainingResources(Resources):
    """What a training may use. With another number of threads the result differs by rounding."""

    device: str = Field("auto", description="auto, cpu, cuda, cuda:N or mps")
    threads: int | None = Field(None, ge=1, description="CPU threads; none: torch decides")
    loader_threads: int = Field(1, ge=0, description="threads that decode ahead; 0: decode in between")
    batch_size: int = Field(8, ge=1, description="photographs per forward pass while mining on a GPU")
    cache_megabytes: int = Field(
        2000, ge=0, description="memory for decoded photographs, or for what frozen layers make of them"
    )
    training_processes: int = Field(1, ge=1, description="processes that train together, one per GPU")
    checkpoint_steps: int = Field(20, ge=1, description="optimiser steps between checkpoints in an epoch")
    checkpoints_kept: int = Field(
        2,
        ge=2,
        description="newest epochs whose checkpoints stay in the work folder of a training",
    )
    checkpoint_pause_s: float = Field(30.0, ge=0, description="least time between them, seconds")
    negatives_at_a_time: int | None = Field(
        None,
        ge=1,
        description="negatives of equal size per forward pass; none: 1 on a CPU, 5 on a GPU",
    )


class Photographs(Protocol):
    """Where the photographs are: storage.photographs.PhotoSource, or anything that maps a name to a file."""

    def path(self, name: str) -> Path: ...


class Matcher(Protocol):
    """Local features matched and verified geometrically."""

    def __call__(self, pairs: NDArray[np.int64], /) -> NDArray[np.int64]:
        """Pairs of images [K, 2] -> inliers of each [K], 0 where nothing verifies at all."""


@dataclass(frozen=True)
class TrainingCall:
    """A training that is asked for; its parts: see `retrieval.training.finetune`."""

    training_set: Path
    network: Path
    photographs: Photographs
    options: TrainingOptions
    out: Path
    work_dir: Path
    resources: TrainingResources
    matcher: Matcher | None
    inputs: tuple[str, ...]
    descriptors: Mapping[int, Mapping[str, Path]] | None = None


@dataclass(frozen=True)
class TrainingProgress:
    """What a person sees while it trains. done of total photographs or tuples of the phase of this epoch."""

    phase: Phase
    epoch: int
    epochs: int
    done: int
    total: int
    loss: float = math.nan
    learning_rate: float = math.nan
    gem_p: float = math.nan


@dataclass(frozen=True)
class TrainingSummary:
    """What came out. Medium mAP of the geometry benchmark on val, nan where it has no queries."""

    best_epoch: int
    last_epoch: int
    map_before: float
    map_best: float
    median_descriptor_shift: float
    warnings: tuple[str, ...]
    seconds: Mapping[str, float]


STAGE = Stage(
    name="finetune",
    kind="directory",
    packages=(*EXTRACTION.packages, "scipy"),
    code="retrieval.training.finetune",
)

NETWORK_FILE = "network.safetensors"
TRAINING_FILE = "training.h5"
