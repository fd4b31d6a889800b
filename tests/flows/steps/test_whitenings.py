"""Names of a run's whitenings, whatever their order in its record, and records from before they had any."""

import json
from datetime import UTC, datetime

import pytest

from flows.options.pipeline import DescriptionOptions
from flows.steps.whitenings import Learnt, names, noted, scales_shown, whitenings
from storage.keys.artifacts import ArtifactRef
from storage.store.ledger import RunRecord

OPTIONS = {"description": DescriptionOptions().model_dump(mode="json")}
NAMES = names(DescriptionOptions())


def ref(name: object) -> ArtifactRef:
    return ArtifactRef(
        stage="whiten",
        key="0" * 64,
        path=f"whiten/{str(name).replace('/', '-')}.h5",
        file_sha256="0",
        content_sha256="0",
        bytes=1,
    )


def record(**values: object) -> RunRecord:
    made = RunRecord(id="run", collection="town", started=datetime.now(UTC), options=OPTIONS)
    made = made.with_refs(values)  # type: ignore[arg-type]
    return RunRecord.model_validate_json(made.model_dump_json())


@pytest.mark.parametrize("order", [NAMES, NAMES[::-1]])
def test_a_whitening_is_found_by_its_name(order: list[Learnt]) -> None:
    kept = record(whiten=noted({name: ref(name) for name in order}))
    assert whitenings(kept) == {name: ref(name) for name in NAMES}
    assert list(whitenings(kept)) == NAMES
    assert set(kept.refs_of("whiten")) == set(kept.named("whiten").values()) == {ref(name) for name in NAMES}


def test_a_record_of_before_has_them_in_the_order_in_which_they_were_learnt() -> None:
    earlier = record(whiten=[ref(name) for name in NAMES])
    assert json.loads(earlier.model_dump_json())["refs"]["whiten"][0]["path"] == ref(NAMES[0]).path
    assert whitenings(earlier) == {name: ref(name) for name in NAMES}
    assert earlier.named("whiten") == {}
    assert NAMES[:3] == [
        Learnt("off-the-shelf", "1", "pcaw"),
        Learnt("off-the-shelf", "1", "lw"),
        Learnt("off-the-shelf", "1+0.7071+0.5", "pcaw"),
    ]


def test_a_run_without_whitenings_has_none() -> None:
    assert whitenings(record(scene=ref("scene"))) == {}
    assert scales_shown(record()) == {"1": "single", "1+0.7071+0.5": "multi"}
