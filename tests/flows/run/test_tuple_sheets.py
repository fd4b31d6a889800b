"""`inspect` of a training set: tables always, a contact sheet where the photographs are."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from flows.cli.main import app
from sfm.lists.identities import IdentityOptions, from_labels


@pytest.fixture
def file(tmp_path: Path) -> Path:
    names = [f"{n} ü.png" for n in range(8)]
    (tmp_path / "photos").mkdir()
    for n, name in enumerate(names):
        Image.fromarray(np.full((30, 40, 3), 20 * n, dtype=np.uint8)).save(tmp_path / "photos" / name)
    chosen = from_labels(
        names, [n // 2 for n in range(8)], None, IdentityOptions(val_fraction=0, test_fraction=0)
    )
    chosen.to_h5(tmp_path / "set.h5")
    return tmp_path / "set.h5"


def call(*args: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(arg) for arg in args])
    return result.exit_code, " ".join(result.output.split())


def test_the_tables(file: Path) -> None:
    code, output = call("inspect", file)
    assert code == 0
    assert "train 8 0 4 0 0 8" in output and "queries without a positive, of 8: m1 0, m2 0, m3 0" in output
    assert call("inspect", file, "--json")[1].endswith("}")


def test_the_sheet(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "sheet.png"
    code, output = call("inspect", file, "--tuples", out, "--photos", tmp_path / "photos", "--count", "2")
    assert code == 0 and "2 tuples in" in output and "without negatives" in output
    assert Image.open(out).format == "PNG"


def test_what_cannot_be_shown_is_an_error(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "sheet.png"
    code, output = call("inspect", file, "--tuples", out)
    assert code == 2 and "give --photos DIR" in output
    code, output = call("inspect", file, "--tuples", out, "--photos", tmp_path / "none")
    assert code == 2 and "give --photos DIR" in output
    code, output = call(
        "inspect", file, "--tuples", tmp_path / "no" / "o.png", "--photos", tmp_path / "photos"
    )
    assert code == 2 and "make it" in output
    (tmp_path / "photos" / "0 ü.png").unlink()
    code, output = call("inspect", file, "--tuples", out, "--photos", tmp_path / "photos")
    assert code == 2 and "0 ü.png" in output and not out.exists()
    (tmp_path / "text.txt").write_text("text")
    code, output = call("inspect", tmp_path / "text.txt", "--tuples", out)
    assert code != 0
