"""Stage tasks: a Prefect task whose cache key is the key of the artifact that it publishes.

A stage task is a function that fills `out`, the path of an artifact that is being built, from `options` (the
stage's frozen model, in the key), `resources` (not in the key) and its inputs: `ArtifactRef`s, lists of them,
and the kinds of `Input` in `tasks.engine.chunks`. It returns what `Store.produce` takes of a build: facts for
the sidecar, the items of a chunk, or None.

    @stage_task(scene.STAGE)
    def build_scene(
        out: Path, options: SceneOptions, catalogue: ArtifactRef, models: list[ArtifactRef],
        resources: SceneResources | None = None,
    ) -> None:
        scene.build(artifact_path(catalogue), [artifact_path(model) for model in models], options, out)

The task takes `store` (path of the store) in place of `out`, and its result is the reference of the artifact:

    @flow
    def reconstruct(store: str, options: ReconstructionOptions, resources: PipelineResources) -> ArtifactRef:
        catalogue = read_catalogue(store=store, options=options.catalogue, ...)
        calls = [{"cluster": chunk.ref} for chunk in clusters]
        models = fan_out(map_cluster, calls, store=store, options=options.mapping, workers=resources.workers)
        return build_scene(store=store, options=options.scene, catalogue=catalogue, models=models)

`build_scene.with_options(refresh_cache=True)` computes again whatever is cached. Without Prefect,
`build_scene.fn(...)` does the same work on the same store.
"""

import functools
import inspect
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import Task
from prefect.cache_policies import CachePolicy
from prefect.context import TaskRunContext
from prefect.results import ResultStore
from prefect.settings import PREFECT_TASKS_REFRESH_CACHE

from storage.keys.artifacts import ArtifactRef
from storage.keys.keys import stage_key
from storage.keys.options import Options
from storage.keys.stages import Stage
from storage.store import integrity
from storage.store.store import Store
from tasks.engine.chunks import Input, Part
from tasks.engine.records import StoreRecords, remove_record, use_store, write_record
from tasks.engine.runtime import is_transient, open_store, tally

logger = logging.getLogger(__name__)

RETRIES = 3
RETRY_DELAYS_S = (2.0, 10.0, 60.0)
VERIFY = "RETRIEVAL_SFM_VERIFY"
_CONVENTION = ("store", "options", "resources")
_RUNNING: ContextVar["Call"] = ContextVar("running_stage_task")

Build = Callable[..., Mapping[str, Any] | None]


class WrongStageTask(TypeError):
    """A stage task that does not follow the convention of this module."""


class WrongInput(ValueError):
    """An input of a stage task without a content digest."""


@dataclass(frozen=True)
class Call:
    """One call of a stage task: everything that its key depends on, and the store that it works in.

    formerly: its inputs as older code had them.
    """

    stage: Stage
    store: Store
    options: Options
    inputs: tuple[str, ...]
    upstream: tuple[ArtifactRef, ...]
    force: bool = False
    formerly: tuple[tuple[str, ...], ...] = ()

    @functools.cached_property
    def key(self) -> str:
        """64 hexadecimal digits; the same as the key that `store.produce` computes."""
        return stage_key(self.stage, self.options, self.inputs)


@dataclass
class StagePolicy(CachePolicy):
    """Cache key of a stage task; it answers only after it has looked at the artifact behind the record.

    The truth is the store: the record is rewritten from it before Prefect reads it, or removed where the
    artifact is missing or damaged, so that Prefect runs the task. Prefect swallows errors of a key function
    and would run uncached; the task's body computes the same key first and raises them.
    """

    stage: Stage | None = None
    parameters: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()

    def call(self, arguments: Mapping[str, Any], *, force: bool) -> Call:
        """The call that `arguments` (by parameter name) describe. Raises WrongInput."""
        assert self.stage is not None
        digests: list[str] = []
        formerly: list[list[str]] = []
        upstream: dict[str, ArtifactRef] = {}
        store, options = open_store(arguments["store"]), arguments["options"]
        for name in self.parameters:
            value = arguments.get(name)
            own = [] if name in self.labels else _digests(name, value, store)
            older = [[*digests, *each] for each in value.formerly] if isinstance(value, Part) else []
            formerly = [[*each, *own] for each in formerly] + older
            digests += own
            upstream |= {ref.path: ref for ref in _held(value)}
        older_inputs = tuple(map(tuple, formerly))
        return Call(self.stage, store, options, tuple(digests), tuple(upstream.values()), force, older_inputs)

    def compute_key(
        self,
        task_ctx: TaskRunContext,
        inputs: dict[str, Any],
        flow_parameters: dict[str, Any],
        **kwargs: Any,
    ) -> str:
        call = self.call(inputs, force=_refreshes(task_ctx))
        records = use_store(task_ctx.result_store, str(call.store.root))
        if call.force:
            return call.key
        if self._settle(call, records, task_ctx.result_store):
            tally(call.stage.name, "cached")
        return call.key

    def _settle(self, call: Call, records: StoreRecords, results: ResultStore) -> bool:
        """Make the record of `call` agree with the store; True if what it stands for is there and intact."""
        ref = call.store.find(call.stage.name, call.key)
        if ref is None or not _is_intact(call.store, ref):
            remove_record(records, call.key)
            return False
        write_record(results, call.key, ref)
        return True


def stage_task(
    stage: Stage, *, labels: Sequence[str] = (), **task_options: Any
) -> Callable[[Build], Task[..., ArtifactRef]]:
    """Make a Prefect task of a function that builds artifacts of `stage` (convention: see the module).

    `labels`: parameters that are not in the key, such as a name for the log; the artifacts among them are
    ancestors of the result all the same. Other keywords go to `prefect.task`. Raises WrongStageTask for a
    function that does not follow the convention.
    """
    settings: dict[str, Any] = {
        "persist_result": True,
        "cache_result_in_memory": False,
        "retries": RETRIES,
        "retry_delay_seconds": list(RETRY_DELAYS_S),
        "retry_jitter_factor": 0.5,
        "retry_condition_fn": is_transient,
        **task_options,
    }

    def decorate(function: Build) -> Task[..., ArtifactRef]:
        policy = _policy(stage, function, tuple(labels))
        return Task(_body(function, policy), cache_policy=policy, **settings)

    return decorate


def running() -> Call:
    """The call of the stage task that is running. Raises WrongStageTask outside of one."""
    try:
        return _RUNNING.get()
    except LookupError:
        raise WrongStageTask(
            "only the body of a stage task can ask for its call; see tasks.engine.caching"
        ) from None


def adopt(call: Call) -> ArtifactRef | None:
    """Where only edited code or updated packages keep an artifact from being that of `call`: make it so."""
    older = call.store.why_missing(call.stage, call.options, call.inputs, call.formerly)
    if older is None:
        return None
    logger.info("accepted %s", older)
    return call.store.accept_older_code(call.stage, call.options, call.inputs, call.formerly)


def artifact_path(ref: ArtifactRef) -> Path:
    """Inside a stage task: the absolute path of an artifact of the store that it works in."""
    return running().store.path(ref)


def _body(function: Build, policy: StagePolicy) -> Callable[..., ArtifactRef]:
    @functools.wraps(function)
    def body(*args: Any, **kwargs: Any) -> ArtifactRef:
        return _run(body, policy, args, kwargs)  # by name: the task can be sent elsewhere

    store = inspect.Parameter("store", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=str)
    _, *rest = inspect.signature(function).parameters.values()
    vars(body)["__signature__"] = inspect.Signature([store, *rest], return_annotation=ArtifactRef)
    return body


def _run(
    body: Callable[..., ArtifactRef], policy: StagePolicy, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> ArtifactRef:
    bound = inspect.signature(body).bind(*args, **kwargs)
    bound.apply_defaults()
    context = TaskRunContext.get()
    call = policy.call(bound.arguments, force=context is not None and _refreshes(context))
    tally(call.stage.name, "run")
    own = {name: value for name, value in bound.arguments.items() if name != "store"}
    build = functools.partial(inspect.unwrap(body), **own)
    token = _RUNNING.set(call)
    try:
        return call.store.produce(
            call.stage, call.options, call.inputs, build, force=call.force, upstream=call.upstream
        )
    finally:
        _RUNNING.reset(token)


def _policy(stage: Stage, function: Build, labels: tuple[str, ...]) -> StagePolicy:
    first, *parameters = inspect.signature(function).parameters
    if first != "out" or "options" not in parameters:
        raise WrongStageTask(f"stage task {function.__name__}: begin with out, and take options")
    unknown = [name for name in labels if name not in parameters]
    if unknown:
        raise WrongStageTask(f"stage task {function.__name__}: labels {unknown} are not parameters")
    inputs = tuple(name for name in parameters if name not in _CONVENTION)
    return StagePolicy(stage=stage, parameters=inputs, labels=labels)


def _digests(name: str, value: Any, store: Store) -> list[str]:
    """What the key has of an input. Raises WrongInput."""
    if isinstance(value, Input):
        return value.digests(store)
    if value is None or isinstance(value, ArtifactRef):
        return ["none" if value is None else value.content_sha256]
    if isinstance(value, list | tuple) and all(isinstance(item, ArtifactRef | Input) for item in value):
        return [digest for item in value for digest in _digests(name, item, store)]
    raise WrongInput(
        f"input {name!r} is a {type(value).__name__} without a content digest: pass an ArtifactRef, an Input "
        "or a list of them, or declare it with labels= if the result does not depend on it"
    )


def _held(value: Any) -> Iterator[ArtifactRef]:
    """The references in an input or a label, however deep."""
    if isinstance(value, ArtifactRef):
        yield value
    elif isinstance(value, Input):
        yield from value.refs
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _held(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _held(item)


def _refreshes(context: TaskRunContext) -> bool:
    refresh = context.task.refresh_cache
    return bool(PREFECT_TASKS_REFRESH_CACHE.value() if refresh is None else refresh)


def _is_intact(store: Store, ref: ArtifactRef) -> bool:
    full = os.environ.get(VERIFY) == "full"
    intact = store.is_intact(ref, full=full)
    if full and not intact:  # produce() must not believe the last verification
        integrity.record_path(store.root, ref).unlink(missing_ok=True)
    return intact
