"""Judge COLMAP models against site labels: photographs registered, models, and models that mix two sites.

    python benchmarks/judge_models.py FOLDER_WITH_MODELS labels.csv

Every folder below the first that holds an `images.bin` is a model whose images are called `<sha256>.jpg`.
The labels are a CSV with the columns sha256, kind and site; photographs of kind `distractor` have a site of
their own each.
"""

from __future__ import annotations

import csv
import struct
import sys
from collections import Counter
from pathlib import Path


def registered_images(model: Path) -> list[str]:
    """The names of a model's registered images, from its `images.bin`."""
    content = (model / "images.bin").read_bytes()
    (count,) = struct.unpack_from("<Q", content)
    position, names = 8, []
    for _ in range(count):
        position += 4 + 7 * 8 + 4  # image id, rotation and translation, camera id
        end = content.index(b"\0", position)
        names.append(content[position:end].decode())
        (points,) = struct.unpack_from("<Q", content, end + 1)
        position = end + 1 + 8 + 24 * points
    return names


def read_sites(labels: Path) -> dict[str, str]:
    """sha256 -> site; a distractor is a site of its own."""
    with labels.open(newline="") as lines:
        return {
            row["sha256"]: row["sha256"] if row["kind"] == "distractor" else row["site"]
            for row in csv.DictReader(lines)
        }


def main(folder: Path, labels: Path) -> int:
    site = read_sites(labels)
    sizes = Counter(site.values())
    registered: set[str] = set()
    models, mixed = 0, 0
    by_site: dict[str, list[int]] = {}
    for file in sorted(folder.rglob("images.bin")):
        shas = [name.removesuffix(".jpg") for name in registered_images(file.parent)]
        sites = Counter(site[sha] for sha in shas)
        if len(shas) < 3:
            continue
        models += 1
        labelled = [each for each in sites if sizes[each] > 1]
        if labelled and len(sites) > 1:
            mixed += 1
            print(f"MIXED {file.parent}: {dict(sites)}")
        registered |= set(shas)
        by_site.setdefault(sites.most_common(1)[0][0], []).append(len(shas))
    got = Counter(site[sha] for sha in registered)
    for name in sorted(name for name in sizes if sizes[name] > 1):
        print(f"{name:24} {got[name]:3} of {sizes[name]:3}  models {by_site.get(name, [])}")
    others = [sizes_ for name, sizes_ in by_site.items() if sizes[name] == 1]
    print(f"models of distractors: {others}")
    print(f"registered {len(registered)}, models of 3 or more {models}, models that mix sites {mixed}")
    return 1 if mixed else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
