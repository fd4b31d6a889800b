"""What each change of the training gives: mAP per epoch, without and with Lw, on several training sets.

    python -m benchmarks.training_gains PHOTOS SET.h5 [SET.h5 ...] --out DIR [--base KEY=VALUE ...]
        [--change "NAME: KEY=VALUE KEY=VALUE" ...] [--split val|test] [--threads 1] [--markdown FILE]

Every change is trained on every training set from the same network, the base first; a change that was
trained before (DIR keeps a JSON file and the last network of each) is read. Options are chosen with
`--split val`: the geometry benchmark of clusters that neither train nor test has; for a val that is not full
at once, make the sets with `--set selection.val_fraction=0.4`, which takes from train alone. `--split test`
is for what was chosen. Lw of every epoch is learnt on train, its ridge chosen on val, so that choices are
between raw columns. Verdicts of the selection hold; further negatives are not matched. Intervals resample
clusters, each with its queries of all sets.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from retrieval.benchmarks.geometry import GeometryBenchmark, score
from retrieval.benchmarks.val import Val
from retrieval.describe.describe import extract
from retrieval.evaluation.bootstrap import bootstrap_difference
from retrieval.networks.network import RetrievalNetwork, build_network, load_network, save_network
from retrieval.networks.options import NetworkOptions
from retrieval.training.checkpoints import CheckpointFolder
from retrieval.training.finetune import finetune
from retrieval.training.options import NETWORK_FILE, TRAINING_FILE, TrainingOptions, TrainingResources
from retrieval.whitening.whitening import WhiteningOptions, choose_shrinkage, pair_statistics, training_pairs
from storage.files.digests import json_sha256
from storage.hdf5 import file as hdf5
from storage.photographs.scanning import PhotoSource

PROTOCOLS = ("medium", "hard")
BASE = "base"
Result = dict[str, Any]


def main(arguments: list[str] | None = None) -> int:
    asked = _parser().parse_args(arguments)
    asked.out.mkdir(parents=True, exist_ok=True)
    base = _values(asked.base)
    changes = {BASE: base} | {
        name.strip(): {**base, **_values(text.split())}
        for name, _, text in (change.partition(":") for change in asked.change)
    }
    found: dict[str, list[Result]] = {}
    for name, values in changes.items():
        options = TrainingOptions.model_validate({"verify_negatives": False, **values})
        found[name] = [measured(asked, options, each, name) for each in asked.sets]
    for grid in (epochs(found, asked.split), gains(found, asked.split)):
        table = Table(*grid[0])
        for row in grid[1:]:
            table.add_row(*row)
        Console(width=180).print(table)
        if asked.markdown:
            with asked.markdown.open("a", encoding="utf-8") as file:
                file.write(_markdown(grid) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="mAP per epoch of several ways to train.")
    parser.add_argument("photos", type=Path, help="folder of photographs")
    parser.add_argument("sets", type=Path, nargs="+", help="training_set.h5 files")
    parser.add_argument("--out", type=Path, required=True, help="folder for results and checkpoints")
    parser.add_argument("--base", nargs="*", default=[], metavar="KEY=VALUE", help="options of `training`")
    parser.add_argument("--change", action="append", default=[], metavar="NAME: KEY=VALUE ...")
    parser.add_argument("--split", choices=["val", "test"], default="val", help="clusters to measure on")
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--markdown", type=Path, help="file to add the tables to")
    return parser


def _values(pairs: Sequence[str]) -> dict[str, Any]:
    return {key: json.loads(value) if _is_json(value) else value for key, _, value in
            (pair.partition("=") for pair in pairs)}  # fmt: skip


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def measured(asked: argparse.Namespace, options: TrainingOptions, training_set: Path, name: str) -> Result:
    """Train on a set, or read what an earlier call trained."""
    key = json_sha256([asked.backbone, options.model_dump(mode="json"), training_set.name, asked.split])[:16]
    file = asked.out / f"{key}.json"
    if not file.is_file():
        print(f"{name}, {training_set.name} ...", file=sys.stderr, flush=True)
        temporary = file.with_suffix(".tmp")
        temporary.write_text(json.dumps({"name": name, **trained(asked, options, training_set, key)}))
        temporary.replace(file)
    return dict(json.loads(file.read_text()))


def trained(asked: argparse.Namespace, options: TrainingOptions, training_set: Path, key: str) -> Result:
    """The epochs of one training: each with its mAP of every query, raw and with Lw."""
    start, folder = asked.out / f"{asked.backbone}.safetensors", asked.out / key
    if not start.is_file():
        save_network(build_network(NetworkOptions(backbone=asked.backbone)), start)
    resources = TrainingResources(threads=asked.threads, device="cpu", checkpoints_kept=10_000)
    arrays = hdf5.read(training_set, "training_set")
    digests = zip(arrays["images/name"], arrays["images/sha256"].astype(str), strict=True)
    source = PhotoSource.from_digests(asked.photos, {str(name): str(sha) for name, sha in digests})
    finetune(training_set, start, source, options, out=folder, work_dir=folder, resources=resources)
    record = hdf5.read(folder / TRAINING_FILE, "training")
    network = load_network(folder / NETWORK_FILE)
    fingerprint = (folder / "training" / "training.json").read_text(encoding="utf-8")
    checkpoints = CheckpointFolder(folder, fingerprint)
    rows = []
    for epoch in record["epochs/epoch"].tolist():
        checkpoints.load_epoch(network, epoch)
        rows.append(judged(network, arrays, source, options.image_size, asked))
    benchmark = GeometryBenchmark.from_arrays(arrays, asked.split)
    save_network(network, folder.with_suffix(".safetensors"))
    shutil.rmtree(folder)
    return {
        "set": str(training_set.name), "options": options.model_dump(mode="json"),
        "best": int(record["best_epoch"]), "clusters": benchmark.clusters.tolist(), "epochs": rows,
        "gem_p": record["epochs/gem_p"].tolist(), "loss_train": record["epochs/loss_train"].tolist(),
        "loss_val": record["epochs/loss_val"].tolist(), "map_val": record["epochs/map_val"].tolist(),
    }  # fmt: skip


def judged(
    network: RetrievalNetwork, arrays: Mapping[str, Any], source: PhotoSource, size: int, asked: Any
) -> Result:
    """Average precisions [Q] by whitening and protocol, nan as None."""
    split = np.asarray(arrays["images/split"])
    wanted = np.flatnonzero((split < 2) | (asked.split == "test"))
    paths = [source.path(str(arrays["images/name"][image])) for image in wanted.tolist()]
    rows = np.zeros((len(split), network.description.dimension), dtype=np.float32)
    rows[wanted] = extract(network, paths, image_size=size, threads=asked.threads, device="cpu")
    pairs = training_pairs(arrays, "m2+m3")
    statistics = pair_statistics(rows, pairs[:, 0], pairs[:, 1], np.flatnonzero(split == 0))
    choice = choose_shrinkage(statistics, rows, Val.of(arrays), WhiteningOptions().shrinkage_grid)
    benchmark = GeometryBenchmark.from_arrays(arrays, asked.split)
    found = {}
    for name, each in (("raw", rows), ("lw", choice.whitening.apply(rows))):
        result = score(benchmark, each[benchmark.queries], each[benchmark.database])
        for protocol in PROTOCOLS:
            values = result.protocol(protocol).average_precisions
            found[f"{name} {protocol}"] = [None if np.isnan(value) else float(value) for value in values]
    return found


def _precisions(result: Result, epoch: int, column: str) -> NDArray[np.float64]:
    return np.array(result["epochs"][epoch][column], dtype=np.float64)


def epochs(found: Mapping[str, Sequence[Result]], split: str) -> list[list[str]]:
    """mAP of every epoch: mean over the sets, and their standard deviation."""
    columns = list(next(iter(found.values()))[0]["epochs"][0])
    head = [f"{split} {column}" for column in columns]
    grid = [["change", "epoch", *head, "kept by sets", "what chose it", "loss val"]]
    for name, results in found.items():
        for epoch in range(min(len(each["epochs"]) for each in results)):
            means = [[100 * float(np.nanmean(_precisions(each, epoch, column))) for each in results]
                     for column in columns]  # fmt: skip
            cells = [f"{np.mean(each):.2f} (sd {np.std(each, ddof=len(each) > 1):.2f})" for each in means]
            chose = [100 * each["map_val"][epoch] for each in results]  # mAP of val, as the training saw it
            grid.append([
                name, str(epoch), *cells,
                str(sum(each["best"] == epoch for each in results)),
                f"{np.mean(chose):.2f} (sd {np.std(chose, ddof=len(chose) > 1):.2f})",
                f"{np.mean([each['loss_val'][epoch] for each in results]):.4f}",
            ])  # fmt: skip
    return grid


def gains(found: Mapping[str, Sequence[Result]], split: str) -> list[list[str]]:
    """Of the kept epochs: minus the network off the shelf, and minus the base, in points with 95 %."""
    columns = list(next(iter(found.values()))[0]["epochs"][0])
    grid = [["change", "minus", *(f"{split} {column}" for column in columns)]]
    for name, results in found.items():
        references = [("off the shelf", [(each, 0) for each in results])]
        if name != BASE:
            references.append((BASE, [(each, each["best"]) for each in found[BASE]]))
        for label, reference in references:
            cells = []
            for column in columns:
                first = [_precisions(each, each["best"], column) for each in results]
                second = [_precisions(each, epoch, column) for each, epoch in reference]
                # sets of one scene number its clusters alike: what two sets test counts once
                clusters = np.concatenate([each["clusters"] for each in results]).astype(np.int64)
                gain = bootstrap_difference(
                    np.concatenate(first), np.concatenate(second), clusters, np.random.default_rng(0)
                )
                cells.append(f"{100 * gain.value:+.2f} [{100 * gain.low:+.2f}..{100 * gain.high:+.2f}]")
            grid.append([name, label, *cells])
    return grid


def _markdown(grid: Sequence[Sequence[str]]) -> str:
    head, *rows = ["| " + " | ".join(row) + " |" for row in grid]
    return "\n".join([head, "|" + "---|" * len(grid[0]), *rows, ""])


if __name__ == "__main__":
    sys.exit(main())
