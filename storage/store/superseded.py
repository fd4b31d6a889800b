"""Artifacts that only edited code or an updated package keeps from being used: say so, adopt on request."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from storage.files import whole
from storage.keys import artifacts
from storage.keys.artifacts import ArtifactRef, Sidecar
from storage.keys.keys import code_differences, key_parts, parts_family, parts_key, parts_meaning
from storage.keys.stages import Stage
from storage.store import chunks, integrity

if TYPE_CHECKING:
    from storage.store.store import Store


class NothingOlder(ValueError):
    """No artifact differs from the wanted one in code and package versions only."""


@dataclass(frozen=True)
class OlderCode:
    """An artifact made by other code or with other packages from the very same options and inputs."""

    ref: ArtifactRef
    differences: tuple[str, ...]
    age_seconds: float
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.ref.stage}: made {self.age_seconds / 3600:.1f} h ago in {self.seconds:.0f} s, "
            f"only the code differs ({', '.join(self.differences)})"
        )


Inputs = Sequence[str]


def why_missing(
    store: Store, stage: Stage, options: BaseModel, inputs: Inputs, formerly: Sequence[Inputs] = ()
) -> OlderCode | None:
    """The newest intact artifact that differs from the missing one in code and package versions only.

    formerly: the inputs as older code had them, where they depend on code themselves. None where nothing is
    missing, and where the artifact is missing for any other reason.
    """
    parts = key_parts(stage, options, inputs)
    if store.find(stage.name, parts_key(parts)) is not None:
        return None
    sidecar = _newest(store, _alike(store, stage, options, (inputs, *formerly)), parts)
    return None if sidecar is None else _older(sidecar, parts)


def accept(
    store: Store, stage: Stage, options: BaseModel, inputs: Inputs, formerly: Sequence[Inputs] = ()
) -> ArtifactRef:
    """Adopt that artifact under today's key; its sidecar records from what. Raises NothingOlder."""
    parts = key_parts(stage, options, inputs)
    with store.lock(parts_key(parts)):
        if found := store.find(stage.name, parts_key(parts)):
            return found
        sidecar = _newest(store, _alike(store, stage, options, (inputs, *formerly)), parts)
        if sidecar is None:
            raise NothingOlder(f"stage {stage.name!r}: no artifact differs in code only; run the stage")
        return _adopt(store, sidecar, parts)


def older_chunks(store: Store, stage: Stage, options: BaseModel) -> list[OlderCode]:
    """For a stage that works by item: intact chunks that differ from today's only in code and versions."""
    parts = key_parts(stage, options, [])
    today = parts_family(parts)
    return [
        _older(sidecar, parts)
        for sidecar in store.index.meaning(parts_meaning(parts, inputs=False))
        if sidecar.items and sidecar.family != today and store.is_intact(sidecar.ref)
    ]


def accept_chunks(
    store: Store, stage: Stage, options: BaseModel, wanted: Mapping[str, str] | None = None
) -> list[ArtifactRef]:
    """Adopt these chunks under today's keys: those with wanted items (id -> input digest) that no chunk of
    today has, or, without ``wanted``, all."""
    adopted = []
    held = chunks.locate(store, stage, options, wanted or {})
    missing = {name: digest for name, digest in (wanted or {}).items() if name not in held}
    for chunk in older_chunks(store, stage, options):
        own = chunks.read(store.root, chunk.ref)
        if wanted is not None and not any(missing.get(name) == facts["input"] for name, facts in own.items()):
            continue
        missing = {name: digest for name, digest in missing.items() if name not in own}
        sidecar = store.sidecar(chunk.ref)
        if sidecar is not None:
            adopted.append(accept(store, stage, options, sidecar.key_parts["inputs"]))
    return adopted


def _alike(store: Store, stage: Stage, options: BaseModel, inputs: Iterable[Inputs]) -> Iterator[Sidecar]:
    """What was made with these options and any of these inputs, by whatever code."""
    for each in inputs:
        yield from store.index.meaning(parts_meaning(key_parts(stage, options, each)))


def keys_by_older_code(store: Store, stage: Stage, options: BaseModel, inputs: Inputs) -> list[str]:
    """The keys that a stage's calls had under every code and all versions that a store has results of."""
    parts = key_parts(stage, options, inputs)
    known = store.index.meaning(parts_meaning(key_parts(stage, options, []), inputs=False))
    keys = [
        parts_key({**parts, **{name: each.key_parts[name] for name in ("packages", "code")}})
        for each in known
    ]
    return [key for key in dict.fromkeys(keys) if key != parts_key(parts)]


def _newest(store: Store, sidecars: Iterable[Sidecar], parts: dict[str, Any]) -> Sidecar | None:
    others = [s for s in sidecars if s.ref.key != parts_key(parts)]
    newest_first = sorted(others, key=lambda s: s.created, reverse=True)
    return next((s for s in newest_first if store.is_intact(s.ref)), None)


def _older(sidecar: Sidecar, parts: dict[str, Any]) -> OlderCode:
    age = (artifacts.now() - sidecar.created).total_seconds()
    return OlderCode(sidecar.ref, code_differences(sidecar.key_parts, parts), age, sidecar.seconds)


def _adopt(store: Store, old: Sidecar, parts: dict[str, Any]) -> ArtifactRef:
    """The old artifact under a second name: its files are linked where that works, copied elsewhere."""
    key, source = parts_key(parts), store.path(old.ref)
    name = artifacts.artifact_name(key, old.ref.content_sha256) + "".join(Path(old.ref.path).suffixes)
    ref = old.ref.model_copy(update={"key": key, "path": f"{old.ref.stage}/{name}"})
    accepted = {
        "from_key": old.ref.key,
        "differences": list(code_differences(old.key_parts, parts)),
        "at": artifacts.now().isoformat(timespec="seconds"),
    }
    new = {"ref": ref, "key_parts": parts, "family": parts_family(parts), "accepted": accepted}
    temporary = whole.temporary_beside(store.path(ref), key)
    try:
        if source.is_dir():
            shutil.copytree(source, temporary, copy_function=_linker())
        else:
            _linker()(str(source), str(temporary))
        artifacts.write_sidecar(store.root, old.model_copy(update=new), chunks.read(store.root, old.ref))
        store.index.add(old.model_copy(update=new))
        whole.remove(store.path(ref))
        whole.publish(temporary, store.path(ref))
    finally:
        whole.remove(temporary)
    integrity.is_intact(store.root, ref)
    store.index.point(ref)
    return ref


def _linker() -> Callable[[str, str], Any]:
    def link(source: str, target: str) -> Any:
        try:
            os.link(source, target)
        except OSError:
            shutil.copy2(source, target)

    return link
