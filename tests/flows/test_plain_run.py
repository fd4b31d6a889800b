"""The flow and the same library functions in a row make the same contents."""

from pathlib import Path

import pytest

from benchmarks.acceptance_runs import MINUTE_SETS, small_town
from benchmarks.overhead import RESULTS, flow_digests, plain_digests
from benchmarks.plain_run import PlainRun
from flows.options.loading import load
from flows.server.context import Session


@pytest.mark.slow
def test_a_script_makes_what_the_flow_makes(server: Session, tmp_path: Path) -> None:
    from flows.end_to_end import end_to_end

    photos = small_town(tmp_path / "photos", buildings=3, views=4, singles=2)
    options, resources = load(None, MINUTE_SETS)
    store = tmp_path / "store"
    server.run(end_to_end, photos=str(photos), store=str(store), options=options, resources=resources)
    (tmp_path / "plain").mkdir()
    script = PlainRun(photos, tmp_path / "plain", options, resources)
    script.run()
    made = {name: [str(path) for path in paths] for name, paths in script.made.items()}
    assert set(made) >= set(RESULTS)
    assert flow_digests(store) == plain_digests(made)
