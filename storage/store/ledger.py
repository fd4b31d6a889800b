"""The ledger of runs: what was asked, what came out, which artifacts it stands on. One file per run."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from storage.files.processes import started as started_of
from storage.files.whole import read_json, write_json
from storage.keys.artifacts import ArtifactRef, is_plain_name, now
from storage.store.store import Store

Status = Literal["running", "completed", "failed", "cancelled"]
Kind = Literal["pipeline", "benchmark", "index"]
Refs = ArtifactRef | tuple[ArtifactRef, ...] | dict[str, ArtifactRef]
NewRefs = ArtifactRef | Sequence[ArtifactRef] | Mapping[str, ArtifactRef]
_STAMP, _STAMP_LENGTH = "%Y%m%dT%H%M%S%f", 21


class UnknownRun(ValueError):
    """A run that the ledger does not have."""


class RunRecord(BaseModel):
    """One run. Records are never edited in place: ``save`` replaces the file of a changed copy."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    collection: str = Field(description="name of the collection of photographs that the run is about")
    started: datetime
    ended: datetime | None = None
    status: Status = "running"
    kind: Kind = Field(
        "pipeline",
        description="benchmark: measured a network on an official benchmark; index: made a collection "
        "searchable",
    )
    options: dict[str, Any] = Field(default_factory=dict)
    resources: dict[str, Any] = Field(default_factory=dict)
    refs: dict[str, Refs] = Field(
        default_factory=dict, description="artifacts per stage: one, a list, or each by its name"
    )
    from_run: str | None = Field(default=None, description="the run whose upstream artifacts it shares")
    facts: dict[str, Any] = Field(
        default_factory=dict, description="what else the flow wants to keep, as JSON"
    )
    host: str = ""
    pid: int = 0
    process_started: str | float = Field(default="", description="a number in records of older versions")

    @field_validator("id")
    @classmethod
    def _is_a_name(cls, run: str) -> str:
        if not is_plain_name(run):
            raise ValueError(f"run {run!r} is no name of a file in the ledger")
        return run

    def refs_of(self, stage_name: str) -> tuple[ArtifactRef, ...]:
        """The run's artifacts of a stage, () for none."""
        found = self.refs.get(stage_name, ())
        if isinstance(found, ArtifactRef):
            return (found,)
        return tuple(found.values() if isinstance(found, dict) else found)

    def named(self, stage_name: str) -> dict[str, ArtifactRef]:
        """The run's artifacts of a stage that have names, {} for none."""
        found = self.refs.get(stage_name)
        return dict(found) if isinstance(found, dict) else {}

    def all_refs(self) -> Iterator[ArtifactRef]:
        """Every artifact of the run."""
        for stage_name in self.refs:
            yield from self.refs_of(stage_name)

    def with_refs(self, refs: Mapping[str, NewRefs]) -> RunRecord:
        """A copy with the artifacts of more stages."""
        return self.model_copy(update={"refs": {**self.refs, **{name: _kept(r) for name, r in refs.items()}}})

    def finished(self, status: Status) -> RunRecord:
        """A copy that has ended."""
        return self.model_copy(update={"status": status, "ended": max(now(), self.started)})

    @property
    def alive(self) -> bool:
        """Whether the run is still going: not ended, and its process lives (assumed on another host)."""
        if self.status != "running":
            return False
        if self.host != os.uname().nodename:
            return True
        return self.process_started != "" and started_of(self.pid) == self.process_started


def _kept(refs: NewRefs) -> Refs:
    if isinstance(refs, ArtifactRef):
        return refs
    return dict(refs) if isinstance(refs, Mapping) else tuple(refs)


@dataclass(frozen=True)
class Stale:
    """An artifact that was made from something older than what is current now."""

    ref: ArtifactRef
    run: str
    built_from: ArtifactRef
    current: tuple[ArtifactRef, ...]

    def __str__(self) -> str:
        names = ", ".join(ref.content_sha256[:16] for ref in self.current[:3])
        names += f" and {len(self.current) - 3} more" if len(self.current) > 3 else ""
        made_from = f"{self.built_from.stage} {self.built_from.content_sha256[:16]}"
        return f"{self.ref.path}: built from {made_from}, current is {names}"


def start(
    store: Store,
    collection: str,
    *,
    options: Mapping[str, Any] | None = None,
    resources: Mapping[str, Any] | None = None,
    from_run: str | None = None,
    refs: Mapping[str, NewRefs] | None = None,
    kind: Kind = "pipeline",
) -> RunRecord:
    """A new record, saved. Ids sort in the order of the runs. What killed runs left unfinished goes."""
    store.sweep()
    began = now()
    record = RunRecord(
        id=f"{_next_stamp(store, began)}-{secrets.token_hex(3)}",
        collection=collection,
        kind=kind,
        started=began,
        options=dict(options or {}),
        resources=dict(resources or {}),
        from_run=from_run,
        host=os.uname().nodename,
        pid=os.getpid(),
        process_started=started_of(os.getpid()),
    ).with_refs(refs or {})
    save(store, record)
    return record


def _next_stamp(store: Store, began: datetime) -> str:
    """The time as the first part of an id, or where the clock was set back the first after the latest run's:
    what sorts last is what "latest" means."""
    stamps = (path.name[:_STAMP_LENGTH] for path in (store.root / "runs").glob("[0-9]*T*-*.json"))
    times = []
    for stamp in stamps:
        with suppress(ValueError):
            times.append(datetime.strptime(stamp, _STAMP).replace(tzinfo=UTC))
    with suppress(ValueError, OverflowError):  # nothing comes after the last microsecond of the year 9999
        began = max(began, max(times) + timedelta(microseconds=1))
    return f"{began:{_STAMP}}"


def save(store: Store, record: RunRecord) -> Path:
    """Write a record in one step; its file."""
    path = store.root / "runs" / f"{record.id}.json"
    write_json(path, record.model_dump(mode="json"), indent=1)
    return path


def load(store: Store, run: str, collection: str | None = None) -> RunRecord:
    """A record by id, or the latest completed one for "latest". Raises UnknownRun."""
    if run == "latest":
        record = latest(store, collection)
        if record is None:
            about = f" of {collection!r}" if collection else ""
            raise UnknownRun(
                f"no completed run{about} in {str(store.root)!r}; make one with `retrieval-sfm run`"
            )
        return record
    found = _read(store.root / "runs" / f"{run}.json") if is_plain_name(run) else None
    if found is None:
        known = ", ".join(r.id for r, _ in zip(records(store), range(3), strict=False)) or "none"
        raise UnknownRun(f"run {run!r} is not in {str(store.root)!r}; latest: {known}")
    return found


def latest(
    store: Store,
    collection: str | None = None,
    *,
    status: Status | None = "completed",
    having: Sequence[str] = (),
    kind: Kind = "pipeline",
) -> RunRecord | None:
    """The newest run of a collection with this status (None = any for both) and artifacts of these stages."""
    for record in records(store):
        if (
            record.kind == kind
            and collection in (None, record.collection)
            and status in (None, record.status)
            and all(record.refs_of(stage_name) for stage_name in having)
        ):
            return record
    return None


def records(store: Store) -> Iterator[RunRecord]:
    """Every readable record, newest first."""
    for path in sorted((store.root / "runs").glob("[!.]*.json"), reverse=True):
        record = _read(path)
        if record is not None:
            yield record


def delete(store: Store, run: str) -> None:
    """Take a run and its report out of the ledger; its artifacts stay until ``gc``. Raises UnknownRun."""
    record = load(store, run)
    for suffix in (".json", ".html"):
        (store.root / "runs" / f"{record.id}{suffix}").unlink(missing_ok=True)


def stale(store: Store, record: RunRecord) -> list[Stale]:
    """Artifacts of earlier runs of its collection that were not built from what this run has.

    A source counts under the name that the earlier run had for it, a stale one of a source counts too. What
    this run itself holds is never stale: its keys say so, whichever equal chunks it was built from.
    """
    seen = {ref.path for ref in record.all_refs()}
    causes: dict[str, tuple[ArtifactRef, tuple[ArtifactRef, ...]] | None] = dict.fromkeys(seen)
    found: list[Stale] = []
    for other in records(store):
        if other.collection != record.collection or other.id > record.id:
            continue
        for ref in other.all_refs():
            if ref.path not in seen:
                seen.add(ref.path)
                if cause := _cause(store, record, other, ref, causes):
                    found.append(Stale(ref, other.id, *cause))
    return found


def _cause(
    store: Store,
    record: RunRecord,
    other: RunRecord,
    ref: ArtifactRef,
    causes: dict[str, tuple[ArtifactRef, tuple[ArtifactRef, ...]] | None],
) -> tuple[ArtifactRef, tuple[ArtifactRef, ...]] | None:
    """What makes an artifact of the run `other` stale: the source, and what `record` has in its place."""
    if ref.path in causes:
        return causes[ref.path]
    causes[ref.path] = None
    sidecar = store.sidecar(ref)
    sources = sidecar.upstream if sidecar else ()
    for source in sources:
        for name in (name for name in other.refs if source in other.refs_of(name)):
            current = record.refs_of(name)
            if current and source.content_sha256 not in {r.content_sha256 for r in current}:
                causes[ref.path] = (source, current)
                return causes[ref.path]
    for source in sources:
        if cause := _cause(store, record, other, source, causes):
            causes[ref.path] = cause
            return cause
    return None


def _read(path: Path) -> RunRecord | None:
    value = read_json(path)
    try:
        found = None if value is None else RunRecord.model_validate(value)
    except ValueError:
        return None
    return found if found is not None and found.id == path.stem else None
