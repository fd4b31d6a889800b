"""A command for the tests: the toy flow, slowly; `python killed_flow.py STORE` is killed in its middle."""

import sys
from pathlib import Path

from flows.server.context import session
from storage.store.store import Store

if __name__ == "__main__":
    root = Path(sys.argv[1])
    Store.create(root, min_free_bytes=0)
    with session(root) as command:
        from tests.tasks import toy_stages as toy

        if len(sys.argv) > 2:
            toy.PAUSE_S = float(sys.argv[2])
        ref = command.run(toy.add, store=str(root), count=4)
        print("total", (root / ref.path).read_text(), sorted(toy.COMPUTED), flush=True)
