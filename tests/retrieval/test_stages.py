"""Stages of the network: light to import, and declared with all the code that their results depend on."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from storage.source import first_party_closure


def test_options_and_stages_do_not_import_torch() -> None:
    modules = "retrieval.finetuning, retrieval.extraction, retrieval.network_options"
    code = f"import sys, {modules}; print('torch' in sys.modules)"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    "module", ["retrieval.finetuning", "retrieval.extraction", "retrieval.network_options"]
)
def test_stages_declare_every_module_they_import(module: str) -> None:
    stage = importlib.import_module(module).STAGE
    own = {name for name in stage.modules if name.startswith("retrieval.")}
    assert own == set(first_party_closure(module))  # of storage: tests/storage/test_stage_declarations.py
