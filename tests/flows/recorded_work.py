"""The flows' own steps on stand-ins: no photograph, no computation, only which task gets which options."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from flows.options.pipeline import PipelineOptions, PipelineResources
from flows.options.stages import STAGES
from flows.steps.table import STEPS
from flows.steps.work import Work
from retrieval.describe.harder_queries import AlteredQuery
from storage.files.digests import json_sha256
from storage.keys.artifacts import ArtifactRef, now
from storage.keys.keys import family_key
from storage.keys.options import Options
from storage.keys.stages import Stage
from storage.store.ledger import RunRecord
from storage.store.store import Store
from tasks.engine.caching import StagePolicy
from tasks.engine.chunks import Chunk, Items, Part

SHAS = [f"{number:064x}" for number in range(1, 4)]


def stand_in(stage: str, key: str) -> ArtifactRef:
    return ArtifactRef(
        stage=stage, key=key, path=f"{stage}/{key[:16]}-x", file_sha256=key, content_sha256=key, bytes=1
    )


@dataclass
class RecordedWork(Work):
    """Notes the key of every task (of a chunk of items: of its family) and answers with a stand-in."""

    keys: list[tuple[str, str, str]] = field(default_factory=list)

    def fan_out(
        self,
        task: Any,
        calls: Sequence[Mapping[str, Any]],
        *,
        workers: int,
        address: str | None = None,
        tolerated: type[Exception] | None = None,
        **common: Any,
    ) -> list[ArtifactRef]:
        return [self._call(task, store=self.root, **common, **call) for call in calls]

    def chunks(self, stage: Stage, options: Options, wanted: Mapping[str, str]) -> list[Chunk]:
        size = self.resources.size_of_chunk(stage.name)
        names = sorted(wanted)
        chunks = [names[start : start + size] for start in range(0, len(names), size)]
        return [Chunk({name: wanted[name] for name in chunk}) for chunk in chunks]

    def _call(self, task: Any, **arguments: Any) -> ArtifactRef:
        if not isinstance(task.cache_policy, StagePolicy):
            return stand_in("scan", "0" * 64)
        call = task.cache_policy.call(arguments, force=False)
        key = family_key(call.stage, call.options) if "chunk" in arguments else call.key
        self.keys.append((self.part, call.stage.name, key))
        return stand_in(call.stage.name, call.key)

    def _save(self) -> None:
        pass


def without_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the steps would read from artifacts becomes a digest of which artifacts they asked about."""

    def digest(*about: Any) -> str:
        return json_sha256([repr(each) for each in about])

    stand_ins: dict[str, Callable[..., Any]] = {
        "to_decode": lambda store, scan: dict.fromkeys(SHAS, "x"),
        "to_try_again": lambda store, copies, resources: {},
        "accepted": lambda store, catalogue: list(SHAS),
        "selected": lambda store, training_set: list(SHAS),
        "list_source": lambda store, training_set: "a given list: positions",
        "check_usable": lambda store, catalogue, photos: None,
        "require_contrast": lambda training_set: None,
        "check_pair_options": lambda store, catalogue, options: None,
        "check_feature_options": lambda store, catalogue, *options: None,
        "feature_groups": lambda store, catalogue, options: {},
        "file_names": lambda store, catalogue: {},
        "proposal_facts": lambda store, catalogue, options: Part([catalogue], []),
        "scan_facts": lambda store, scan: Part([scan], []),
        "matches_of": lambda store, matches, proposals, features: Items(matches, [f"{SHAS[0]}-{SHAS[1]}"]),
        "item_digests": lambda store, refs: dict.fromkeys(SHAS, "x"),
        "items_input": lambda store, refs, items=None: digest(items),
        "holders": lambda store, refs: {},
        "network_digest": lambda store, network: network.content_sha256,
        "pairs_wanted": lambda store, proposals, features: {f"{SHAS[0]}-{SHAS[1]}": "x"},
        "checked_by": lambda store, features, training_set, matching: Part(
            features, [digest(matching, len(features))] if features else []
        ),
        "clusters_to_map": lambda store, found, options: [SHAS],
        "mapping_calls": lambda store, found, *refs: [
            {"name": SHAS[0], "features": Part([], ["x"]), "matches": Part([], []), "working": Part([], [])}
        ],
        "pair_sources": lambda store, proposals: ["exhaustive"],
        "altered_queries": lambda store, training_set: [AlteredQuery(SHAS[0], "half", None)],
    }
    for name in (*(f"flows.steps.{stage}" for stage in STAGES), "tasks.engine.chunks"):
        module = import_module(name)
        for name, function in stand_ins.items():
            if hasattr(module, name):
                monkeypatch.setattr(module, name, function)


def keys_of(
    store: Store, options: PipelineOptions, resources: PipelineResources, photos: Path
) -> set[tuple[str, str, str]]:
    """(flow, stage, key) of every task of the five flows."""
    asked = options.model_dump(mode="json")
    record = RunRecord(id="recorded", collection="", started=now(), options=asked)
    used = resources.model_copy(update={"photos": str(photos)})
    work = RecordedWork(store, record, options, used, part="")
    for stage in STAGES:
        work.part = stage
        STEPS[stage](work)
    return set(work.keys)
