"""The command line in a process of its own, with a report on what its tasks did.

    python -m benchmarks.acceptance_command REPORT.json run PHOTOS --store DIR ...
    python -m benchmarks.acceptance_command REPORT.json in-turn PHOTOS STORE STORE ... [--set KEY=VALUE ...]

The report: per call, how many tasks of each stage were cached and how many ran; which heavy libraries this
process has imported; its number, by which its run is known. `in-turn` runs the flow up to the training set on
the stores one after the other, with one Prefect session, as a worker does.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

HEAVY = ("torch", "torchvision", "pycolmap", "faiss")


def main(report: Path, arguments: list[str]) -> None:
    """Run the command; the report is written however it ends."""
    calls: list[dict[str, Any]] = []
    try:
        if arguments[0] == "in-turn":
            in_turn(arguments[1:], calls)
        else:
            command(arguments)
    finally:
        if "tasks.engine.runtime" in sys.modules and not calls:
            calls.append(sys.modules["tasks.engine.runtime"].tallies())
        heavy = [name for name in HEAVY if name in sys.modules]
        report.write_text(json.dumps({"calls": calls, "heavy": heavy, "pid": os.getpid()}))


def command(arguments: list[str]) -> None:
    """The command line with these arguments."""
    from flows.cli.main import main as entry

    sys.argv = ["retrieval-sfm", *arguments]
    entry()


def in_turn(arguments: list[str], calls: list[dict[str, Any]]) -> None:
    """Photographs to a training set on each store, one session; appends each call's tallies to `calls`."""
    from flows.options.loading import load
    from flows.server.context import session

    names = [
        text
        for number, text in enumerate(arguments)
        if "--set" not in arguments[max(0, number - 1) : number + 1]
    ]
    sets = [arguments[number + 1] for number, text in enumerate(arguments) if text == "--set"]
    photos, *stores = names
    options, resources = load(None, sets)
    with session(stores[0]) as running:
        from flows.end_to_end import end_to_end
        from tasks.engine.runtime import reset_tallies, tallies

        for store in stores:
            reset_tallies()
            running.run(
                end_to_end, photos=photos, store=store, options=options, resources=resources, until="select"
            )
            calls.append(tallies())


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
