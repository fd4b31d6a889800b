"""Stages of the network: light to import, and declared with all the code that their results depend on."""

import subprocess
import sys
from pathlib import Path


def test_options_and_stages_do_not_import_torch() -> None:
    modules = "retrieval.training.options, retrieval.describe.options, retrieval.networks.options"
    code = f"import sys, {modules}; print('torch' in sys.modules)"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "False"
