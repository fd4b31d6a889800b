"""Stage tasks: a Prefect task whose cache key is the key of the artifact that it publishes.

A stage task takes `store` (path of the store), `options` (the stage's frozen model, in the key), `resources`
(not in the key) and its inputs: `ArtifactRef`s, lists of them, `Items` of chunks, a `Part` of an artifact, or
`inputs: list[str]` with content digests.
It returns the reference that `publish` gives it:

    @stage_task(scene.STAGE)
    def build_scene(
        store: str, options: SceneOptions, catalogue: ArtifactRef, models: list[ArtifactRef],
        resources: SceneResources | None = None,
    ) -> ArtifactRef:
        def build(out: Path) -> None:
            scene.build(artifact_path(catalogue), [artifact_path(model) for model in models], options, out)

        return publish(build)

    @flow
    def reconstruct(store: str, options: ReconstructionOptions, resources: PipelineResources) -> ArtifactRef:
        catalogue = read_catalogue(store=store, options=options.catalogue, ...)
        calls = [{"cluster": chunk.ref} for chunk in clusters]
        models = fan_out(map_cluster, calls, store=store, options=options.mapping, workers=resources.workers)
        return build_scene(store=store, options=options.scene, catalogue=catalogue, models=models)

`build_scene.with_options(refresh_cache=True)` (or `forced(build_scene, names)`) computes again whatever is
cached. Without Prefect, `build_scene.fn(...)` does the same work on the same store.
"""

import functools
import inspect
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

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
from tasks.engine.chunks import Items, Part
from tasks.engine.records import StoreRecords, read_record, remove_record, use_store, write_record
from tasks.engine.runtime import is_transient, open_store, tally

logger = logging.getLogger(__name__)

RETRIES = 3
RETRY_DELAYS_S = (2.0, 10.0, 60.0)
VERIFY = "RETRIEVAL_SFM_VERIFY"
_CONVENTION = ("store", "options", "resources", "inputs")
_RUNNING: ContextVar["Call"] = ContextVar("running_stage_task")

Refs = TypeVar("Refs", ArtifactRef, list[ArtifactRef])


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
    parameters: tuple[str, ...] = field(default_factory=tuple)
    labels: tuple[str, ...] = field(default_factory=tuple)
    returns: Literal["one", "many"] = "one"

    def call(self, arguments: Mapping[str, Any], *, force: bool) -> Call:
        """The call that `arguments` (by parameter name) describe. Raises WrongInput."""
        assert self.stage is not None
        digests: list[str] = []
        formerly: list[list[str]] = []
        upstream: dict[str, ArtifactRef] = {}
        store, options = open_store(arguments["store"]), arguments["options"]
        for name in self.parameters:
            value = arguments.get(name)
            before = len(digests)
            if isinstance(value, Items | Part):
                digests += value.digests(store)
                upstream |= {ref.path: ref for ref in value.refs}
            elif name in self.labels:
                upstream |= {ref.path: ref for ref in _held(value)}
            elif name not in _CONVENTION:
                refs = _references(name, value)
                digests += ["none"] if refs is None else [ref.content_sha256 for ref in refs]
                upstream |= {ref.path: ref for ref in refs or []}
            same = digests[before:]
            formerly = [[*each, *same] for each in formerly]
            if isinstance(value, Part):
                formerly += [[*digests[:before], *each] for each in value.formerly]
        inputs = arguments.get("inputs") or []
        older = tuple((*each, *inputs) for each in formerly)
        return Call(self.stage, store, options, (*digests, *inputs), tuple(upstream.values()), force, older)

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
        refs: ArtifactRef | list[ArtifactRef] | None
        if self.returns == "one":
            refs = call.store.find(call.stage.name, call.key)
        else:
            refs = read_record(records, call.key)
        if refs is None or not _intact(call.store, refs):
            remove_record(records, call.key)
            return False
        write_record(results, call.key, refs)
        return True


def stage_task(
    stage: Stage, *, labels: Sequence[str] = (), retries: int = RETRIES, **task_options: Any
) -> Callable[[Callable[..., Refs]], Task[..., Refs]]:
    """Make a Prefect task of a function that publishes artifacts of `stage` (convention: see the module).

    `labels`: parameters that are not in the key, such as a name for the log, or artifacts whose content is in
    the key through `inputs`; the artifacts among them are ancestors of the result all the same. Other
    keywords go to `prefect.task`. Raises WrongStageTask for a function that does not follow the convention.
    """

    def decorate(function: Callable[..., Refs]) -> Task[..., Refs]:
        policy = _policy(stage, function, tuple(labels))
        return Task(
            _body(function, policy),
            name=task_options.pop("name", function.__name__),
            cache_policy=policy,
            persist_result=True,
            cache_result_in_memory=False,
            retries=retries,
            retry_delay_seconds=list(task_options.pop("retry_delay_seconds", RETRY_DELAYS_S)),
            retry_jitter_factor=task_options.pop("retry_jitter_factor", 0.5),
            retry_condition_fn=is_transient,
            **task_options,
        )

    return decorate


def running() -> Call:
    """The call of the stage task that is running. Raises WrongStageTask outside of one."""
    try:
        return _RUNNING.get()
    except LookupError:
        raise WrongStageTask(
            "only the body of a stage task can ask for its call; see tasks.engine.caching"
        ) from None


def publish(build: Callable[[Path], Mapping[str, Any] | None]) -> ArtifactRef:
    """Inside a stage task: the artifact of this call, found in the store or built by `build(path to
    fill)`."""
    call = running()
    return call.store.produce(
        call.stage, call.options, call.inputs, build, force=call.force, upstream=call.upstream
    )


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


def forced(task: Task[..., Refs], force: Sequence[str]) -> Task[..., Refs]:
    """The task itself, or, where its stage is named in `force`, one that computes again whatever is
    cached."""
    policy = task.cache_policy
    assert isinstance(policy, StagePolicy) and policy.stage is not None
    return task.with_options(refresh_cache=True) if policy.stage.name in force else task


def _body(function: Callable[..., Refs], policy: StagePolicy) -> Callable[..., Refs]:
    @functools.wraps(function)
    def body(*args: Any, **kwargs: Any) -> Refs:
        return _run(function, policy, args, kwargs)  # by name: the task can be sent elsewhere

    return body


def _run(
    function: Callable[..., Refs], policy: StagePolicy, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Refs:
    bound = inspect.signature(function).bind(*args, **kwargs)
    bound.apply_defaults()
    context = TaskRunContext.get()
    call = policy.call(bound.arguments, force=context is not None and _refreshes(context))
    key = call.key
    tally(call.stage.name, "run")
    token = _RUNNING.set(call)
    try:
        refs = function(*args, **kwargs)
    finally:
        _RUNNING.reset(token)
    if isinstance(refs, ArtifactRef) and refs.key != key:
        raise WrongStageTask(
            f"{function.__name__} returned {refs.stage} {refs.key[:16]}, its own key is {key[:16]}: a "
            "stage task must return what publish() gives it, or every run would compute it again"
        )
    return refs


def _policy(stage: Stage, function: Callable[..., Any], labels: tuple[str, ...]) -> StagePolicy:
    parameters = inspect.signature(function).parameters
    missing = [name for name in ("store", "options") if name not in parameters]
    if missing:
        raise WrongStageTask(f"stage task {function.__name__} has no parameter {' and '.join(missing)}")
    unknown = [name for name in labels if name not in parameters]
    if unknown:
        raise WrongStageTask(f"stage task {function.__name__}: labels {unknown} are not parameters")
    returned = inspect.get_annotations(function, eval_str=True).get("return")
    if returned not in (ArtifactRef, list[ArtifactRef]):
        raise WrongStageTask(
            f"stage task {function.__name__} returns {returned}; make it ArtifactRef or list[ArtifactRef]"
        )
    returns: Literal["one", "many"] = "one" if returned is ArtifactRef else "many"
    return StagePolicy(stage=stage, parameters=tuple(parameters), labels=labels, returns=returns)


def _references(name: str, value: Any) -> list[ArtifactRef] | None:
    if value is None or isinstance(value, ArtifactRef):
        return None if value is None else [value]
    if isinstance(value, list | tuple) and all(isinstance(item, ArtifactRef) for item in value):
        return list(value)
    raise WrongInput(
        f"input {name!r} is a {type(value).__name__} without a content digest: pass an ArtifactRef or a list "
        "of them, give digests as `inputs`, or declare it with labels= if the result does not depend on it"
    )


def _held(value: Any) -> Iterator[ArtifactRef]:
    """The references in a label's value, however deep."""
    if isinstance(value, ArtifactRef):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _held(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _held(item)


def _refreshes(context: TaskRunContext) -> bool:
    refresh = context.task.refresh_cache
    return bool(PREFECT_TASKS_REFRESH_CACHE.value() if refresh is None else refresh)


def _intact(store: Store, refs: ArtifactRef | list[ArtifactRef]) -> bool:
    full = os.environ.get(VERIFY) == "full"
    return all(_is_intact(store, ref, full) for ref in ([refs] if isinstance(refs, ArtifactRef) else refs))


def _is_intact(store: Store, ref: ArtifactRef, full: bool) -> bool:
    intact = store.is_intact(ref, full=full)
    if full and not intact:  # produce() must not believe the last verification
        integrity.record_path(store.root, ref).unlink(missing_ok=True)
    return intact
