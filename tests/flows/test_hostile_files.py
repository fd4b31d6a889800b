"""120 hostile files beside 40 good photographs: each has its reason, and nothing else is changed by them."""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from benchmarks.acceptance_runs import small_town
from storage.hdf5 import file as hdf5
from storage.photographs.folders import read_left_out
from storage.store import ledger
from storage.store.ledger import RunRecord
from storage.store.store import Store
from tests.flows.hostile_files import put_hostile_files
from tests.flows.test_bad_folder import models

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
BUILDINGS, VIEWS, SINGLES = 4, 8, 8
QUICK = (
    "reconstruction.description.image_size=96", "description.image_size=96", "description.multi_scales=[1.0]",
    "training.epochs=1", "training.queries_per_epoch=4", "training.image_size=96",
    "whitening.shrinkage_grid=[1.0]",
)  # fmt: skip
SAME = ("mapping", "training_set", "network", "finetune", "whiten", "evaluation")


@dataclass(frozen=True)
class Result:
    store: Store
    record: RunRecord
    output: str

    def path(self, name: str) -> Path:
        return self.store.path(self.record.refs_of(name)[0])


def run(photos: Path, store: Path) -> Result:
    sets = [part for text in QUICK for part in ("--set", text)]
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli.main", "run", photos, "--store", store, *sets],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    output = done.stdout.decode(errors="replace")
    assert done.returncode == 0, output
    opened = Store.open(store)
    return Result(opened, ledger.load(opened, "latest"), output)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Result]:
    """The good photographs alone, and the same among hostile files, in two stores."""
    folder = tmp_path_factory.mktemp("hostile")
    good = small_town(folder / "good", buildings=BUILDINGS, views=VIEWS, singles=SINGLES)
    shutil.copytree(good, folder / "bad")
    put_hostile_files(folder / "bad" / "zz hostile", sorted((folder / "bad").iterdir()))
    stores = {"good": folder / "store-good", "bad": folder / "bad" / "a store"}
    with ThreadPoolExecutor(2) as pool:
        done = [pool.submit(run, folder / name, store) for name, store in stores.items()]
        return done[0].result(), done[1].result()


def test_each_has_its_status_and_reason(results: tuple[Result, Result]) -> None:
    good, bad = results
    scene = hdf5.read(bad.path("scene"), "scene")
    rows = zip(*(scene[f"photos/{key}"].tolist() for key in ("name", "status", "reason")), strict=True)
    hostile = {name: (status, reason) for name, status, reason in rows if name.startswith("zz hostile/")}
    assert len(hostile) >= 120
    unsaid = {name: each for name, each in hostile.items() if each[0] == "ok" or not each[1]}
    assert unsaid == {}
    alone = hdf5.read(good.path("scene"), "scene")["photos/name"].tolist()
    assert len(alone) == 40 and len(scene["photos/name"]) == 40 + len(hostile)


def test_copies_in_odd_encodings_are_duplicates(results: tuple[Result, Result]) -> None:
    scene = hdf5.read(results[1].path("scene"), "scene")
    status = dict(zip(scene["photos/name"].tolist(), scene["photos/status"].tolist(), strict=True))
    for name in ("cmyk.jpg", "16 bits.png", "float.tif", "palette.gif", "EXIF turned.jpg", "no ending"):
        assert status[f"zz hostile/{name}"] == "duplicate", name


def test_what_is_left_out_is_counted(results: tuple[Result, Result]) -> None:
    good, bad = results
    assert read_left_out(good.path("scan"), "scan") == {} == read_left_out(good.path("scene"), "scene")
    counts = read_left_out(bad.path("scene"), "scene")
    assert counts == {".txt": 40, "system": 1, "store": 1} == read_left_out(bad.path("scan"), "scan")
    assert "left out, no photographs: 40 .txt, 1 of the system, 1 store" in bad.output
    report = (bad.store.root / "runs" / f"{bad.record.id}.html").read_text()
    assert "40 .txt, 1 of the system, 1 store" in report


def test_the_models_are_those_of_the_good_ones_alone(results: tuple[Result, Result]) -> None:
    ours, theirs = (models(hdf5.read(each.path("scene"), "scene")) for each in results)
    assert len(ours) >= 2 and ours.keys() == theirs.keys()
    for photographs, cameras in ours.items():
        for sha, camera in cameras.items():
            for name, values in camera.items():
                np.testing.assert_array_equal(values, theirs[photographs][sha][name], err_msg=f"{sha} {name}")


def test_training_and_result_are_those_of_the_good_ones_alone(results: tuple[Result, Result]) -> None:
    good, bad = results
    for name in SAME:
        one, other = ([ref.content_sha256 for ref in each.record.refs_of(name)] for each in (good, bad))
        assert one and sorted(one) == sorted(other), name
