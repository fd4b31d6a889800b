"""A reconstruction on a Dask cluster of two worker processes: the contents of a local one, and its cache."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import LocalCluster

from benchmarks.acceptance_runs import content_digests, item_contents, small_town
from flows.options.pipeline import PipelineOptions, PipelineResources
from flows.server.context import Session
from storage.store.ledger import RunRecord
from tasks.engine.runtime import reset_tallies, tallies

SPREAD = ("features", "matches", "mapping")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_town(tmp_path_factory.mktemp("town") / "photos", buildings=2, views=4, singles=1)


def reconstruct(
    server: Session, photos: Path, store: Path, address: str | None = None
) -> tuple[RunRecord, dict[str, Any]]:
    from flows.end_to_end import end_to_end

    small = {"backbone": "squeezenet1_1", "weights": "random"}
    options = PipelineOptions(reconstruction={"network": small, "description": {"image_size": 64}})
    place = {"runner": "dask", "dask_address": address} if address else {}
    resources = PipelineResources(photographs_per_task=3, pairs_per_task=10, processes=2, **place)
    reset_tallies()
    arguments = {"options": options, "resources": resources, "until": "reconstruct", "config": None}
    record = server.run(end_to_end, photos=str(photos), store=str(store), **arguments)
    return record, tallies()


@pytest.fixture
def environment() -> Iterator[None]:
    """A cluster of processes leaves OMP_NUM_THREADS and the like in this one's environment."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.usefixtures("environment")
def test_local_and_dask_agree_and_share(server: Session, photos: Path, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    local, ran = reconstruct(server, photos, here)
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=":0"
    ) as cluster:
        address = cluster.scheduler_address
        spread, ran_there = reconstruct(server, photos, there, address)
        again, cached = reconstruct(server, photos, here, address)
    back, cached_back = reconstruct(server, photos, there)
    assert content_digests(spread)["scene"] == content_digests(local)["scene"]
    assert item_contents(there, spread) == item_contents(here, local)
    assert sorted(content_digests(spread)["mapping"]) == sorted(content_digests(local)["mapping"])
    assert {name: ran[name]["run"] for name in SPREAD} == {name: ran_there[name]["run"] for name in SPREAD}
    assert ran["features"]["run"] == 3 and ran["matches"]["run"] >= 3 and ran["mapping"]["run"] >= 2
    for counts in (cached, cached_back):
        assert all(count["run"] == 0 for name, count in counts.items() if name != "scan"), counts
    assert (again.refs, back.refs) == (local.refs, spread.refs)
