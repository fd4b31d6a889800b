"""What it costs that an index from outside is opened in a process of its own: seconds of whole searches.

    python -m benchmarks.guarded_search [--rows 250000] [--turns 5]

A search is a process that opens network and index, describes one photograph and finds the nearest of so many
random rows of 512 dimensions. Turns alternate between an index that is trusted, opened in the process that
searches as before, and one that is not. Prints the median of each and their ratio as JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

_SEARCH = """
import sys, time
from pathlib import Path
started = time.monotonic()
from flows.serving import search
index, network, query = map(Path, sys.argv[1:4])
collection = search.open_files(index, network, trusted=sys.argv[4] == "trusted")
hits = search.ask(collection, search.Question(query, None, 20, None))
print(len(hits), time.monotonic() - started)
"""


def make_index(folder: Path, rows: int) -> tuple[Path, Path]:
    """(index, network): random unit rows, and a network without training."""
    from flows.serving.search import network_sha256
    from retrieval.networks.network import build_network, save_network
    from retrieval.networks.options import NetworkOptions
    from retrieval.search.index import SearchIndex

    network = build_network(NetworkOptions(backbone="resnet18", weights="random"))
    save_network(network, folder / "network.safetensors")
    size = network.description.dimension
    random = np.random.default_rng(0).normal(size=(rows, size)).astype(np.float32)
    random /= np.linalg.norm(random, axis=1, keepdims=True)
    names = [f"folder/{number:08d}.jpg" for number in range(rows)]
    digests = [f"{number:064x}" for number in range(rows)]
    made = network_sha256(folder / "network.safetensors")
    SearchIndex.build(random, names, network=made, sha256=digests).save(folder / "index.h5")
    return folder / "index.h5", folder / "network.safetensors"


def seconds(index: Path, network: Path, query: Path, way: str) -> float:
    """Of one search in a fresh process, imports included, as a command has them."""
    command = [sys.executable, "-c", _SEARCH, str(index), str(network), str(query), way]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def main() -> None:
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=plain)
    parser.add_argument("--rows", type=int, default=250_000)
    parser.add_argument("--turns", type=int, default=5)
    chosen = parser.parse_args()
    from PIL import Image

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        index, network = make_index(folder, chosen.rows)
        picture = np.random.default_rng(1).integers(0, 255, (480, 640, 3), np.uint8)
        Image.fromarray(picture).save(folder / "query.jpg")
        times: dict[str, list[float]] = {"trusted": [], "guarded": []}
        for turn in range(chosen.turns + 1):  # the first warms the disk's cache
            for way in times:
                took = seconds(index, network, folder / "query.jpg", way)
                if turn:
                    times[way].append(took)
                print(turn, way, f"{took:.2f} s", file=sys.stderr, flush=True)
    medians = {way: round(statistics.median(each), 3) for way, each in times.items()}
    ratio = round(medians["guarded"] / medians["trusted"], 3)
    print(json.dumps({**medians, "ratio": ratio, "times": times}))


if __name__ == "__main__":
    main()
