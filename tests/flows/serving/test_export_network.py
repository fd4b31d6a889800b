"""`export --onnx` and `--safetensors` on a store with networks: what comes out, what is refused."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from flows.cli import common, main
from flows.options.pipeline import PipelineOptions
from retrieval.networks.network import build_network, load_network, save_network
from retrieval.networks.options import NetworkOptions
from retrieval.whitening.whitening import Whitening
from storage.keys.options import Options
from storage.keys.stages import Stage
from storage.store import ledger
from storage.store.store import Store

FILE = Stage(name="network", suffix=".safetensors")
FOLDER = Stage(name="finetune", kind="directory")
WHITEN = Stage(name="whiten", schema_name="whitening", suffix=".h5")
SMALL = NetworkOptions(backbone="squeezenet1_1", weights="random")
PHOTO = torch.rand(1, 3, 64, 80, generator=torch.Generator().manual_seed(0))


class Number(Options):
    value: int


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    for console in (common.out, common.err):
        monkeypatch.setattr(console, "_width", 250)


def whitening(number: int) -> Whitening:
    generator = np.random.default_rng(number)
    return Whitening(generator.normal(size=512) * 0.1, generator.normal(size=(512, 512)))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A run with both networks (seeds 0 and 1) and, per network and scales, PCAw and Lw numbered from 0."""
    store = Store.create(tmp_path / "store", min_free_bytes=0)

    def network(out: Path, seed: int) -> None:
        save_network(build_network(SMALL.model_copy(update={"seed": seed})), out)

    def folder(out: Path) -> None:
        out.mkdir(exist_ok=True)
        network(out / "network.safetensors", 1)

    refs: dict[str, Any] = {
        "network": store.produce(FILE, Options(), ["a"], lambda out: network(out, 0)),
        "finetune": store.produce(FOLDER, Options(), ["a"], folder),
        "whiten": [
            store.produce(WHITEN, Number(value=i), ["a"], lambda out, i=i: whitening(i).save(out))
            for i in range(8)
        ],
    }
    options = PipelineOptions().model_dump(mode="json")
    ledger.save(store, ledger.start(store, "photos", options=options, refs=refs).finished("completed"))
    return store


def call(store: Store, *arguments: object) -> Any:
    return CliRunner().invoke(main.app, ["export", "--store", str(store.root), *map(str, arguments)])


def test_safetensors_are_the_network_with_its_whitening_as_a_layer(store: Store, tmp_path: Path) -> None:
    result = call(store, "--safetensors", tmp_path / "plain")
    assert result.exit_code == 0, result.output
    assert result.output == f"safetensors, fine-tuned squeezenet1_1, gem, 512 dimensions: {tmp_path}/plain\n"
    tuned = build_network(SMALL.model_copy(update={"seed": 1}))
    with torch.no_grad():
        raw = tuned(PHOTO)
        found = load_network(tmp_path / "plain" / "network.safetensors")(PHOTO)
        torch.testing.assert_close(found, raw, rtol=0, atol=0)
    result = call(store, "--safetensors", tmp_path / "lw", "--whitening", "lw", "--dimensions", 20)
    assert "fine-tuned squeezenet1_1, gem, whitened, 20 dimensions" in result.output
    lw = whitening(5)  # off-the-shelf: single 0, 1, multi 2, 3; fine-tuned: single 4 (PCAw), 5 (Lw)
    with torch.no_grad():
        found = load_network(tmp_path / "lw" / "network.safetensors")(PHOTO)
    np.testing.assert_allclose(found.numpy(), lw.apply(raw.numpy(), 20), atol=1e-5)
    modes = {path.stat().st_mode for path in (tmp_path / "lw").iterdir()}
    assert len(modes) == 1  # whoever may read the description may read the network
    facts = json.loads((tmp_path / "lw" / "network.json").read_text())
    assert (facts["dimension"], facts["whitened"], facts["which"]) == (20, True, "fine-tuned")
    assert facts["mean"] == [0.485, 0.456, 0.406] and facts["description_image_size"] == 480


def test_off_the_shelf_with_pcaw(store: Store, tmp_path: Path) -> None:
    result = call(store, "--safetensors", tmp_path / "x", "--network", "off-the-shelf", "--whitening", "pcaw")
    assert result.exit_code == 0, result.output
    with torch.no_grad():
        found = load_network(tmp_path / "x" / "network.safetensors")(PHOTO)
        expected = whitening(0).apply(build_network(SMALL)(PHOTO).numpy())
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


def test_onnx_is_checked_and_lies_in_its_folder(store: Store, tmp_path: Path) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="needs the extra export")
    import onnxruntime

    result = call(store, "--onnx", tmp_path / "x", "--whitening", "lw", "--dimensions", 7)
    assert result.exit_code == 0, result.output
    assert result.output.startswith(
        "ONNX, fine-tuned squeezenet1_1, gem, whitened, 7 dimensions, not checked"
    )
    assert sorted(path.name for path in (tmp_path / "x").iterdir()) == ["network.json", "network.onnx"]
    session = onnxruntime.InferenceSession(tmp_path / "x" / "network.onnx")
    (found,) = session.run(None, {"photographs": PHOTO.numpy()})
    with torch.no_grad():
        raw = build_network(SMALL.model_copy(update={"seed": 1}))(PHOTO).numpy()
    np.testing.assert_allclose(found, whitening(5).apply(raw, 7), atol=1e-4)


def test_what_cannot_be_exported_leaves_nothing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*arguments: object) -> str:
        result = call(store, *arguments)
        assert result.exit_code == 2 and not (tmp_path / "x").exists(), result.output
        return str(result.output)

    asked = ("--safetensors", tmp_path / "x", "--whitening", "lw", "--dimensions", 513)
    assert "513 dimensions asked; this whitening has 1..512" in refused(*asked)
    (ref,) = [ref for i, ref in enumerate(ledger.load(store, "latest").refs_of("whiten")) if i == 5]
    store.path(ref).unlink()
    assert "no intact whitening lw of the fine-tuned network" in refused(*asked[:4])
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert "retrieval-sfm[export]" in refused("--onnx", tmp_path / "x")
    assert not [path for path in tmp_path.iterdir() if "unfinished" in path.name]


def test_a_network_with_a_whitening_layer_has_room_for_no_other(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whitened = build_network(SMALL.model_copy(update={"whitening": True}))
    monkeypatch.setattr("retrieval.networks.network.load_network", lambda path: whitened)
    result = call(store, "--safetensors", tmp_path / "x", "--whitening", "lw")
    assert result.exit_code == 2 and "ends in a whitening layer" in result.output
