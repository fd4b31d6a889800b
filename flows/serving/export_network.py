"""A run's network for other programs, its learnt whitening as the last layer: ONNX, safetensors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from shutil import copymode
from typing import TYPE_CHECKING

from flows.options.names import NETWORKS
from flows.options.pipeline import DescriptionOptions
from flows.run.networks import used_by
from flows.serving.export import only_artifact
from flows.steps.whitenings import whitenings
from sfm.export.names import UnusableExport
from storage.files.exports import check_free, new_folder
from storage.store import ledger
from storage.store.ledger import RunRecord
from storage.store.store import Store
from tasks.describing import network_file
from tasks.engine.chunks import file_of_items

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from retrieval.networks.network import RetrievalNetwork
    from retrieval.whitening.whitening import Whitening

SIZES = (362, 224, 480, 129)
"""Longer sides in px of the photographs that an exported graph is checked on."""


@dataclass(frozen=True)
class ChosenNetwork:
    """What is exported: a network, the whitening that follows it, and how many dimensions that keeps."""

    store: Store
    record: RunRecord
    name: str
    network: RetrievalNetwork
    whitening: Whitening | None
    dimensions: int | None

    @property
    def dimension(self) -> int:
        """Of its descriptors."""
        last = self.network.description.dimension if self.whitening is None else self.whitening.dimensions
        return self.dimensions or last

    def __str__(self) -> str:
        inside = self.network.description
        whitened = "" if self.whitening is None else ", whitened"
        return f"{self.name} {inside.architecture}, {inside.pooling}{whitened}, {self.dimension} dimensions"


def choose(
    store: str,
    run: str,
    network: str | None = None,
    whitening: str | None = None,
    dimensions: int | None = None,
) -> ChosenNetwork:
    """A network of a run ('fine-tuned' or 'off-the-shelf') with its whitening for a single scale.

    network None: that of the run's verdict, with its whitening where that is None too; without a verdict the
    fine-tuned one. whitening None: none.
    Raises UnknownRun, NoStore, UnusableExport, ValueError for dimensions that it has not.
    """
    from retrieval.networks.network import load_network

    opened = Store.open(store)
    record = ledger.load(opened, run)
    used = used_by(opened, record) if network is None else None
    if used is not None:
        whitening = whitening or used.whitening
    network = used.network if used else network or "fine-tuned"
    file = network_file(only_artifact(opened, record, NETWORKS[network], "finetune"))
    transform = None if whitening in (None, "none", "raw") else _whitening(opened, record, network, whitening)
    if transform is not None:
        transform.as_linear(dimensions)  # refuses dimensions that are not there
    return ChosenNetwork(opened, record, network, load_network(file), transform, dimensions)


def to_onnx(chosen: ChosenNetwork, out: Path) -> str:
    """network.onnx and network.json in a new folder, checked against torch on photographs of the run; in a
    line. Raises MissingPackage, UnusableFolder; ExportMismatch where the graph computes something else.
    """
    from retrieval.export.onnx import check_onnx, export_onnx

    check_free(out)
    photographs = list(_photographs(chosen))
    more = {"whitening": chosen.whitening, "dimensions": chosen.dimensions}
    with new_folder(out) as folder:
        export_onnx(chosen.network, folder / "network.onnx", **more)  # type: ignore[arg-type]
        worst = check_onnx(folder / "network.onnx", chosen.network, photographs, **more)  # type: ignore[arg-type]
        _describe(chosen, folder)
    checked = (
        f"within {worst:.1e} of torch on {len(photographs)} photographs" if photographs else "not checked"
    )
    return f"ONNX, {chosen}, {checked}: {out}"


def to_safetensors(chosen: ChosenNetwork, out: Path) -> str:
    """network.safetensors and network.json in a new folder; in a line.

    Raises UnusableExport where a whitening would be a second one, UnusableFolder.
    """
    from retrieval.networks.network import initialise_whitening, save_network

    network = chosen.network
    if chosen.whitening is not None and network.whiten is not None:
        raise UnusableExport(
            f"the {chosen.name} network of run {chosen.record.id} ends in a whitening layer, and the file "
            "has room for one; export it with --whitening none, or as --onnx"
        )
    with new_folder(out) as folder:
        _describe(chosen, folder)
        if chosen.whitening is not None:
            weight, _ = chosen.whitening.as_linear(chosen.dimensions)
            initialise_whitening(network, chosen.whitening.mean, weight)
        save_network(network, folder / "network.safetensors")
        copymode(folder / "network.json", folder / "network.safetensors")  # not for its owner alone
    return f"safetensors, {chosen}: {out}"


def _whitening(store: Store, record: RunRecord, network: str, method: str) -> Whitening:
    from retrieval.whitening.whitening import Whitening

    single = next(iter(DescriptionOptions().scale_sets()))
    ref = next((ref for name, ref in whitenings(record).items() if name == (network, single, method)), None)
    if ref is None or not store.is_intact(ref):
        raise UnusableExport(
            f"run {record.id} has no intact whitening {method} of the {network} network at a single scale; "
            "run as far as whiten first (--until whiten)"
        )
    return Whitening.load(store.path(ref))


def _photographs(chosen: ChosenNetwork) -> Iterator[NDArray[np.uint8]]:
    """A few of the run's working copies, as many as are there, each at another size."""
    from retrieval.describe.images import load_photograph

    refs = [ref for ref in chosen.record.refs_of("working") if chosen.store.is_intact(ref)]
    found = (
        (sha, folder / f"{sha}.jpg") for sha, folder in sorted(file_of_items(chosen.store, refs).items())
    )
    there = (path for _, path in found if path.is_file())
    for size, path in zip(SIZES, islice(there, len(SIZES)), strict=False):
        yield load_photograph(path, size)


def _describe(chosen: ChosenNetwork, folder: Path) -> None:
    """network.json: what the network is and what a photograph must look like."""
    from retrieval.export.onnx import INPUT_LAYOUT

    description = chosen.network.description
    facts = {
        "run": chosen.record.id,
        "which": chosen.name,
        "input": INPUT_LAYOUT,
        "mean": list(description.mean),
        "std": list(description.std),
        "training_image_size": chosen.record.options.get("training", {}).get("image_size"),
        "description_image_size": chosen.record.options.get("description", {}).get("image_size"),
        "whitened": chosen.whitening is not None,
        "dimension": chosen.dimension,
        "network": description.facts(),
    }
    (folder / "network.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
