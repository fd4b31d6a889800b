"""Whether two stores hold the same content: the last completed run of each, artifact by artifact.

    python -m benchmarks.compare_stores STORE OTHER_STORE

Content digests are compared, so times, paths, keys and versions of code do not count. Artifacts of items
(photographs, pairs) are compared item by item, however they are grouped into files. Exit code 1 if anything
differs.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.acceptance_runs import Checks, content_digests, differing, item_contents, latest_record


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Compare the content of the last runs of two stores.")
    parser.add_argument("stores", nargs=2, type=Path, metavar="STORE")
    return compare(*parser.parse_args(arguments).stores)


def compare(first: Path, second: Path) -> int:
    """A line per kind of artifact; the exit code. Raises ValueError where a store has no completed run."""
    checks = Checks()
    whole, items = [], []
    for store in (first, second):
        record = latest_record(store)
        if record is None:
            raise ValueError(f"{store}: no completed run; let one end there first")
        held = {  # without the family: it holds the digest of the code
            name: {(item.split(" ", 1)[1], digest) for item, digest in found.items()}
            for name, found in item_contents(store, record).items()
        }
        items.append(held)
        whole.append({name: each for name, each in content_digests(record).items() if name not in held})
    for kind, (one, other) in (("artifacts", whole), ("items", items)):
        different = differing(one, other)
        for name in sorted({*one, *other}):
            numbers = f"{len(one.get(name, ()))} and {len(other.get(name, ()))} {kind}"
            checks.add(name, name not in different, numbers)
    return checks.finish(f"{first.name} and {second.name}: content")


if __name__ == "__main__":
    raise SystemExit(main())
