"""`index` with the network and a whitening of a run, in a store of made-up artifacts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import flows.index as index_flow
from flows.cli import main
from flows.options.pipeline import PipelineOptions
from flows.run.networks import UnknownNetwork, by_id, chosen_network, used_by
from flows.server.context import Session
from retrieval.describe.options import ExtractionOptions
from retrieval.networks.network import build_network, save_network
from retrieval.networks.options import NetworkOptions
from retrieval.search.index import SearchIndex
from retrieval.whitening.whitening import Whitening
from storage.hdf5.digests import content_sha256
from storage.keys.options import Options
from storage.keys.stages import Stage
from storage.store import ledger
from storage.store.store import Store
from tests.flows.benchmark_folders import put, scene
from tests.storage.layout_samples import write_sample

FOLDER = Stage(name="finetune", kind="directory")
WHITEN = Stage(name="whiten", schema_name="whitening", suffix=".h5")


class Number(Options):
    value: int


def whitening(number: int) -> Whitening:
    generator = np.random.default_rng(number)
    return Whitening(generator.normal(size=512) * 0.1, generator.normal(size=(512, 512)))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """photos/, and a store with a run: a network in a folder, whitenings numbered from 0.

    By network (off the shelf, fine-tuned), scales (single, multi) and method (PCAw, Lw).
    """
    root = tmp_path_factory.mktemp("run")
    for number in range(3):
        put(root / "photos" / f"{number}.jpg", scene(number))
    store = Store.create(root / "store", min_free_bytes=0)

    def folder(out: Path) -> None:
        out.mkdir(exist_ok=True)
        small = NetworkOptions(backbone="squeezenet1_1", weights="random", seed=3)
        save_network(build_network(small), out / "network.safetensors")

    refs: dict[str, Any] = {
        "finetune": store.produce(FOLDER, Options(), ["a"], folder),
        "whiten": [
            store.produce(WHITEN, Number(value=i), ["a"], lambda out, i=i: whitening(i).save(out))
            for i in range(8)
        ],
    }
    options = PipelineOptions().model_dump(mode="json")
    ledger.save(store, ledger.start(store, "photos", options=options, refs=refs).finished("completed"))
    return root


def call(*arguments: object) -> Any:
    return CliRunner().invoke(main.app, [str(each) for each in arguments], env={"COLUMNS": "250"})


@pytest.mark.parametrize(
    ("method", "scales", "number"), [("lw", "1", 5), ("pcaw", "1,0.70710678118654752,0.5", 6)]
)
def test_the_whitening_of_the_fine_tuned_network_for_the_scales(
    server: Session, root: Path, tmp_path: Path, method: str, scales: str, number: int
) -> None:
    result = call(
        "index", root / "photos", "--store", root / "store", "--network", "latest",
        "--whitening", method, "--scales", scales, "--dimensions", 20, "--image-size", 64,
        "--out", tmp_path / "out",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    index = SearchIndex.load(tmp_path / "out" / "index.h5")
    assert index.network == content_sha256(tmp_path / "out" / "network.safetensors")
    assert index.transform is not None and index.descriptors.shape == (3, 20)
    np.testing.assert_array_equal(index.transform.mean, whitening(number).mean)
    whitening(number).save(tmp_path / "w.h5")
    assert index.whitening == content_sha256(tmp_path / "w.h5")
    for place in (("--store", root / "store"), ("--index", tmp_path / "out")):
        found = call("search", root / "photos" / "2.jpg", *place, "--k", 1)
        assert found.exit_code == 0 and "1.0000" in found.output and "2.jpg" in found.output


def test_a_whitening_that_the_run_has_not_is_named(server: Session, root: Path) -> None:
    arguments = ("index", root / "photos", "--store", root / "store", "--whitening", "lw")
    other = call(*arguments, "--network", "latest", "--scales", "1,0.3")
    assert other.exit_code == 1 and "no intact whitening lw for scales 1+0.3" in other.output
    nowhere = call(*arguments, "--network", "nobody")
    assert nowhere.exit_code == 1 and "is not in" in nowhere.output


def test_a_run_is_the_network_and_the_whitening_of_its_verdict(root: Path, tmp_path: Path) -> None:
    """Only whiten: off the shelf, Lw; whatever else is asked for by name stays as it is asked for."""
    store = Store.create(tmp_path / "store", min_free_bytes=0)
    run = ledger.load(Store.open(root / "store"), "latest")

    def folder(out: Path, name: str) -> None:
        out.mkdir(exist_ok=True)
        (out / name).touch()

    def evaluation(out: Path) -> None:
        write_sample(out, "evaluation")

    shelf = store.produce(FOLDER, Options(), ["a"], lambda out: folder(out, "a"))
    verdict = Stage(name="evaluate", schema_name="evaluation", suffix=".h5")
    refs = {
        "network": shelf,
        "finetune": store.produce(FOLDER, Options(), ["b"], lambda out: folder(out, "b")),
        "whiten": [
            store.produce(WHITEN, Number(value=i), ["a"], lambda out, i=i: whitening(i).save(out))
            for i in range(8)
        ],
    }
    saved = ledger.start(store, "photos", options=run.options, refs=refs).finished("completed")
    ledger.save(store, saved)
    asked = ("latest", "latest/off-the-shelf", f"{saved.id}/fine-tuned")
    assert [chosen_network(store, each)[0] for each in asked] == [refs["finetune"], shelf, refs["finetune"]]
    assert index_flow.whitening_by_verdict(store, "latest") is None
    evaluated = store.produce(verdict, Options(), ["a"], evaluation)
    ledger.save(store, saved.with_refs({"evaluation": evaluated}))
    assert used_by(store, ledger.load(store, "latest")) == ("off-the-shelf", "lw")
    assert [chosen_network(store, each)[0] for each in asked] == [shelf, shelf, refs["finetune"]]
    assert chosen_network(store, "latest")[1] == "off-the-shelf latest"
    assert [index_flow.whitening_by_verdict(store, each) for each in (*asked, "nobody", None)] == ["lw"] + [
        None
    ] * 4
    assert by_id(store, "latest") == saved.id and by_id(store, asked[1]) == f"{saved.id}/off-the-shelf"
    assert [by_id(store, each) for each in ("nobody", "no/body", None)] == ["nobody", "no/body", None]
    single = ExtractionOptions()
    for network, number in (("latest", 1), (asked[1], 1), (asked[2], 5)):
        found = index_flow.whitening_of(store, network, "lw", single)
        np.testing.assert_array_equal(Whitening.load(found).mean, whitening(number).mean)
    store.path(evaluated).unlink()
    with pytest.raises(UnknownNetwork, match="damaged or gone; run evaluate again, or name the network"):
        chosen_network(store, "latest")
    assert chosen_network(store, asked[2])[0] == refs["finetune"]
