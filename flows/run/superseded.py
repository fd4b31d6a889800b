"""Results that only edited code or updated packages would make again: said before a run starts."""

import logging
from collections.abc import Iterable, Sequence

from flows.options.pipeline import PipelineOptions, PipelineResources
from flows.options.stages import STAGES, TABLE
from flows.run.look_ahead import Seen, look_ahead
from storage.files.units import duration
from storage.files.words import nearest_name
from storage.keys.code import code_digests
from storage.keys.keys import code_differences, package_versions
from storage.keys.stages import Stage
from storage.store import ledger
from storage.store.ledger import RunRecord
from storage.store.store import Store
from tasks import describing, learning, mapping, matching, photographs, selecting
from tasks.engine.caching import StagePolicy

logger = logging.getLogger(__name__)


class UnknownStage(ValueError):
    """A name that neither a flow nor a stage has."""


def stages_by_name() -> dict[str, Stage]:
    """Every stage that a flow's task makes."""
    found = {}
    for module in (photographs, describing, matching, mapping, selecting, learning):
        for task in vars(module).values():
            policy = getattr(task, "cache_policy", None)
            if isinstance(policy, StagePolicy) and policy.stage is not None:
                found[policy.stage.name] = policy.stage
    return found


def check_names(names: Sequence[str]) -> None:
    """Raises UnknownStage for a name that neither a flow nor a stage has."""
    known = [*STAGES, *sorted(stages_by_name().keys() - set(STAGES))]
    for name in names:
        if name not in known:
            nearest = nearest_name(name, known)
            hint = f"did you mean {nearest!r}? " if nearest else ""
            raise UnknownStage(
                f"--accept-older-code {name}: no such flow or stage; {hint}valid: {', '.join(known)}"
            )


def notices(
    store: Store,
    collection: str,
    options: PipelineOptions,
    resources: PipelineResources,
    stages: Sequence[str] = STAGES,
    accept: Sequence[str] = (),
) -> list[str]:
    """A line per stage whose results a run would make again only because code or packages changed.

    collection: its latest run is looked at. accept: flows and stages whose older results are used.
    """
    record = ledger.latest(store, collection, status=None, having=("scan",))
    if record is None or not code_changed(store, record):
        return []
    walk = look_ahead(store, options, resources, record.refs_of("scan")[0], collection)
    walk.walk(stages)
    found = [s for s in walk.seen.values() if s.older and not {s.flow, s.stage.name} & set(accept)]
    return lines(found)


def code_changed(store: Store, record: RunRecord) -> bool:
    """Whether the code or a package of any stage differs from when a run's artifacts were made."""
    known = stages_by_name()
    for name in (name for stage in TABLE for name in stage.makes):
        for ref in record.refs_of(name)[:1]:  # one chunk stands for all: they have one code
            sidecar = store.sidecar(ref)
            stage = known.get(ref.stage)
            if sidecar is not None and stage is not None:
                today = {"packages": package_versions(stage.packages), "code": code_digests(stage.code)}
                if code_differences(sidecar.key_parts, today):
                    return True
    return False


def lines(found: Iterable[Seen]) -> list[str]:
    """Per flow and stage: how many results, their age, what making them took, what differs."""
    groups: dict[tuple[str, str], list[Seen]] = {}
    for seen in found:
        groups.setdefault((seen.flow, seen.stage.name), []).append(seen)
    return [_line(flow, stage, group) for (flow, stage), group in groups.items()]


def _line(flow: str, stage: str, group: Sequence[Seen]) -> str:
    why = sorted((s.older for s in group if s.older is not None), key=lambda older: older.age_seconds)
    differences = list(dict.fromkeys(text for each in why for text in each.differences))
    changed = ", ".join(differences[:3]) + (f" and {len(differences) - 3} more" if differences[3:] else "")
    ages = dict.fromkeys(duration(each.age_seconds) for each in (why[0], why[-1]))
    return (
        f"{flow}: {stage} will be made again only because code changed ({changed}): {len(why)} files, "
        f"{' to '.join(ages)} old, took {duration(sum(each.seconds for each in why))}; "
        f"--accept-older-code {stage} uses them as they are"
    )


def announce(lines: Sequence[str]) -> None:
    """Log the lines, as warnings."""
    for line in lines:
        logger.warning(line)
