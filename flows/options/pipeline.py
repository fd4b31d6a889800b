"""The options and resources of the whole pipeline: the YAML file, `--set`, and the form in the Prefect UI."""

import os
from typing import Any, Literal

from pydantic import Field, model_validator

from retrieval.describe.options import (
    PAPER_SCALES,
    SINGLE_SCALE,
    ExtractionOptions,
    ExtractionResources,
    Precision,
)
from retrieval.evaluation.evaluate import EvaluationOptions
from retrieval.networks.options import NetworkOptions
from retrieval.training.options import TrainingOptions, TrainingResources
from retrieval.whitening.methods import FROM_PAIRS
from retrieval.whitening.whitening import LwOptions, WhiteningOptions
from sfm.features.sift import FeatureOptions, FeatureResources
from sfm.lists.identities import IdentityOptions
from sfm.lists.positions import PositionOptions
from sfm.lists.select import ListOptions, kind_of
from sfm.mapping.clusters import ClusterOptions
from sfm.mapping.map import MappingOptions, MappingResources
from sfm.matching.match import MatchingOptions, MatchingResources
from sfm.pairing.expansion import ExpansionOptions
from sfm.pairing.strategies import PairOptions
from sfm.pairing.vocabulary import VocabularyResources
from sfm.photographs.working import WorkingOptions, WorkingResources
from sfm.scene.importing import ImportOptions
from sfm.scene.scene import SceneOptions
from sfm.selection.stages import SplitOptions
from sfm.training_set.cirtorch import CirtorchOptions
from storage.keys.options import ContentPath, Options, Resources
from storage.pictures.decoding import CEILING_MEGAPIXELS, MOST_MEGAPIXELS


class ReconstructionOptions(Options):
    """Photographs to 3D models."""

    working: WorkingOptions = Field(WorkingOptions(), description="working copies")
    network: NetworkOptions = Field(NetworkOptions(), description="network whose neighbours propose pairs")
    description: ExtractionOptions = Field(ExtractionOptions(), description="its global descriptors")
    features: FeatureOptions = Field(FeatureOptions(), description="local features")
    pairs: PairOptions = Field(PairOptions(), description="which pairs are matched first")
    expansion: ExpansionOptions = Field(ExpansionOptions(), description="pairs that earlier ones suggest")
    matching: MatchingOptions = Field(MatchingOptions(), description="matching and verification")
    clusters: ClusterOptions = Field(ClusterOptions(), description="connected photographs")
    mapping: MappingOptions = Field(MappingOptions(), description="cameras and 3D points")
    scene: SceneOptions = Field(SceneOptions(), description="what enters scene.h5")
    colmap: ContentPath | None = Field(
        None, description="folder of COLMAP models that are taken instead of matching and mapping; none: map"
    )

    def importing(self) -> ImportOptions | None:
        """How the models of `colmap` become the scene, None where there are none."""
        if self.colmap is None:
            return None
        return ImportOptions(
            folder=self.colmap,
            min_inliers=self.clusters.min_inliers,
            min_model_photos=self.scene.min_model_photos,
        )


class DescriptionOptions(Options):
    """How photographs are described for whitening and evaluation."""

    image_size: int = Field(480, ge=32, description="longer side of the photograph in px; never enlarged")
    multi_scales: tuple[float, ...] = Field(PAPER_SCALES, description="factors of that size, several scales")
    precision: Precision = Field("float32", description="arithmetic inside the trunk")
    draft: bool = Field(False, description="let the JPEG decoder skip resolution that is not needed")

    def scale_sets(self) -> dict[str, ExtractionOptions]:
        """Name in the table -> how to extract: single scale first, then several."""
        common = {"image_size": self.image_size, "precision": self.precision, "draft": self.draft}
        sets = {"1": ExtractionOptions(**common, scales=SINGLE_SCALE)}
        if self.multi_scales != SINGLE_SCALE:
            name = "+".join(f"{scale:.4g}" for scale in self.multi_scales)
            sets[name] = ExtractionOptions(**common, scales=self.multi_scales)
        return sets


class WhiteningsOptions(LwOptions):
    """What the two whitenings, PCAw and Lw, are learnt from."""

    def of(self, method: str) -> WhiteningOptions:
        """Options of one of them; PCAw knows no pairs, so nothing here changes it."""
        return WhiteningOptions(method=method, **(dict(self) if method in FROM_PAIRS else {}))


class ReconstructSections(Options):
    """Options of the flow `reconstruct`."""

    reconstruction: ReconstructionOptions = Field(ReconstructionOptions(), description="reconstruct")


class SelectionSection(SplitOptions):
    """From the scene, or from a list that somebody brings."""

    list: ContentPath | None = Field(
        None,
        description="list that is selected from in place of 3D models: .csv of positions or identities, .pkl "
        "of the reference (cirtorch), training_set.h5 of another store; none: reconstruct",
    )
    positions: PositionOptions = Field(PositionOptions(), description="a list of positions")
    identities: IdentityOptions = Field(IdentityOptions(), description="a list of identities")
    cirtorch: CirtorchOptions = Field(CirtorchOptions(), description="a list of the reference")

    @model_validator(mode="after")
    def _needs_a_scene(self) -> "SelectionSection":
        made_of_models = {
            "previous": self.previous,
            "decontamination.benchmark": self.decontamination.benchmark,
        }
        for name, path in made_of_models.items():
            if self.list is not None and path is not None:
                raise ValueError(
                    f"{name} needs a reconstruction, and a selection from a list has none; "
                    f"set selection.{name}=null or selection.list=null"
                )
        return self

    def of_scene(self) -> SplitOptions:
        """How a scene is selected from."""
        return SplitOptions(**{name: getattr(self, name) for name in SplitOptions.model_fields})

    def of_list(self) -> ListOptions:
        """How `list` is selected from: the section of its kind. Raises UnknownList, BadText."""
        assert self.list is not None
        kind = kind_of(self.list)
        own = {} if kind == "training_set" else {kind: getattr(self, kind)}
        return ListOptions(list=self.list, **own)


class SelectSections(Options):
    """Options of the flow `select`."""

    selection: SelectionSection = Field(SelectionSection(), description="select")


class FinetuneSections(Options):
    """Options of the flow `finetune`."""

    network: NetworkOptions = Field(NetworkOptions(), description="the network that is fine-tuned")
    training: TrainingOptions = Field(TrainingOptions(), description="finetune")


class WhitenSections(Options):
    """Options of the flow `whiten`."""

    description: DescriptionOptions = Field(DescriptionOptions(), description="descriptors for the rest")
    whitening: WhiteningsOptions = Field(WhiteningsOptions(), description="whiten")


class EvaluateSections(Options):
    """Options of the flow `evaluate`."""

    evaluation: EvaluationOptions = Field(EvaluationOptions(), description="evaluate")


class PipelineOptions(
    EvaluateSections, WhitenSections, FinetuneSections, SelectSections, ReconstructSections
):
    """Everything that changes a result, in the order of the stages."""


SECTIONS: dict[str, type[Options]] = {
    "reconstruct": ReconstructSections,
    "select": SelectSections,
    "finetune": FinetuneSections,
    "whiten": WhitenSections,
    "evaluate": EvaluateSections,
}


def sections(stage: str) -> type[Options]:
    """The sections of PipelineOptions that are a stage's own; it may have none."""
    return SECTIONS.get(stage, Options)


def sections_of(stage: str) -> tuple[str, ...]:
    """Their names."""
    return tuple(sections(stage).model_fields)


class PipelineResources(Resources):
    """What a run may use; none of it changes a result or a cache key."""

    photos: str | None = Field(None, description="folder of the photographs; none: that of the earlier run")
    processes: int | None = Field(None, ge=1, description="child processes at a time; none: one per core")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:N or mps")
    threads: int | None = Field(None, ge=1, description="CPU threads of the network; none: one per core")
    loader_threads: int = Field(1, ge=0, description="threads that decode photographs ahead")
    batch_size: int = Field(8, ge=1, description="photographs per forward pass on a GPU")
    cache_megabytes: int = Field(2000, ge=0, description="memory for decoded training photographs")
    training_processes: int = Field(
        1, ge=1, description="processes that train together, one per GPU, by torch's own launcher"
    )
    checkpoint_steps: int = Field(20, ge=1, description="optimiser steps between a training's checkpoints")
    max_megapixels: float = Field(
        MOST_MEGAPIXELS,
        gt=0,
        le=CEILING_MEGAPIXELS,
        description="larger photographs are rejected by their header, a million px",
    )
    photographs_per_task: int = Field(64, ge=1, description="photographs of one task's chunk")
    pairs_per_task: int = Field(500, ge=1, description="photograph pairs of one task's chunk")
    chunk_time_limit_s: float = Field(3600.0, gt=0, description="a chunk that takes longer fails, seconds")
    mapping_time_limit_s: float = Field(
        1800.0, gt=0, description="a cluster that takes longer fails, seconds"
    )

    runner: Literal["local", "dask"] = Field(
        "local", description="where features, matches and mapping run: here, or on a Dask cluster"
    )
    dask_address: str | None = Field(None, description="of the cluster's scheduler, tcp://HOST:8786")
    gpu_slot: str | None = Field(
        None, description="global concurrency limit of Prefect's that describing and training wait for"
    )

    @model_validator(mode="after")
    def _cluster_has_an_address(self) -> "PipelineResources":
        if self.runner == "dask" and not self.dask_address:
            raise ValueError("runner=dask needs a cluster; set resources.dask_address=tcp://HOST:8786")
        return self

    @property
    def cluster(self) -> str | None:
        """Address of the Dask cluster that is used, None for none."""
        return self.dask_address if self.runner == "dask" else None

    @property
    def workers(self) -> int:
        """Tasks with child processes that run at a time."""
        return self.processes or len(os.sched_getaffinity(0))

    def size_of_chunk(self, stage: str) -> int:
        """Items of one task: pairs for matches, photographs for the rest."""
        return self.pairs_per_task if stage == "matches" else self.photographs_per_task

    def extraction(self) -> ExtractionResources:
        return ExtractionResources(**self._of(ExtractionResources))

    def training(self) -> TrainingResources:
        return TrainingResources(**self._of(TrainingResources))

    def _of(self, model: type[Resources]) -> dict[str, Any]:
        """The members that a stage's resources have under the same name."""
        return {name: getattr(self, name) for name in model.model_fields if name in type(self).model_fields}

    def working(self) -> WorkingResources:
        return WorkingResources(max_megapixels=self.max_megapixels)

    def features(self) -> FeatureResources:
        return FeatureResources(time_limit_s=self.chunk_time_limit_s)

    def pairs(self) -> VocabularyResources:
        return VocabularyResources(time_limit_s=self.chunk_time_limit_s)

    def matching(self) -> MatchingResources:
        return MatchingResources(time_limit_s=self.chunk_time_limit_s)

    def mapping(self) -> MappingResources:
        return MappingResources(time_limit_s=self.mapping_time_limit_s)
