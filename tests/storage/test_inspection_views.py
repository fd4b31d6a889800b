"""The rows of a dataset as a table, and what differs between two files."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from flows.cli.main import app
from storage.files.errors import DamagedArtifact, MissingItem, NotAnArtifact
from storage.hdf5 import file as hdf5
from storage.inspect.difference import ABSENT, Change, difference
from storage.inspect.preview import MOST_COLUMNS, preview
from tests.storage.layout_samples import NAMES, SAMPLES, SHA, write_sample

RUN = CliRunner()


def test_the_first_rows_of_a_column(tmp_path: Path) -> None:
    found = preview(write_sample(tmp_path / "a.h5", "scene"), "/points/xyz", 2)
    assert found.header == ("xyz[0]", "xyz[1]", "xyz[2]")
    assert found.rows == ((0.0, 1.0, 2.0), (3.0, 4.0, 5.0))
    assert (found.total, found.columns[0].unit, found.columns[0].shape) == (3, "model units", (3, 3))


def test_a_group_is_a_table_of_its_columns(tmp_path: Path) -> None:
    found = preview(write_sample(tmp_path / "a.h5", "scan"), "photos")
    assert found.header == ("bytes", "name", "reason", "sha256", "status")
    assert [row[1] for row in found.rows] == NAMES[: found.total]
    assert preview(tmp_path / "a.h5", "photos", 0).rows == ()


def test_scalars_three_dimensions_and_wide_rows(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["one"] = 7
        file["cube"] = np.arange(12).reshape(2, 2, 3)
        file["wide"] = np.zeros((3, 100), np.uint8)
        file["none"] = h5py.Empty("f4")
        file["odd"] = np.array([(1, 2.0)], dtype=[("a", int), ("b", float)])
    assert preview(tmp_path / "a.h5", "one").rows == ((7,),)
    cube = preview(tmp_path / "a.h5", "cube", 1)
    assert (cube.header[-1], cube.rows) == ("cube[1,2]", ((0, 1, 2, 3, 4, 5),))
    wide = preview(tmp_path / "a.h5", "wide")
    assert (len(wide.header), wide.left_out) == (MOST_COLUMNS, 100 - MOST_COLUMNS)
    assert preview(tmp_path / "a.h5", "none").rows == ()
    assert preview(tmp_path / "a.h5", "odd").rows == (("(1, 2.0)",),)


def test_of_a_huge_dataset_the_first_rows_come_at_once(tmp_path: Path) -> None:
    rows = 20 * 2**30 // 24
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("xyz", (rows, 3), "float64", chunks=(1024, 3))
        file["xyz"][0] = 1, 2, 3
    found = preview(tmp_path / "a.h5", "xyz", 2)
    assert (found.total, found.rows[0]) == (rows, (1.0, 2.0, 3.0))


def test_what_is_not_there_is_named_with_what_is(tmp_path: Path) -> None:
    path = write_sample(tmp_path / "a.h5", "scene")
    with pytest.raises(MissingItem, match="no dataset or group 'points/xy'; did you mean 'xyz'"):
        preview(path, "points/xy")
    with pytest.raises(MissingItem, match="has no datasets of its own; it has: attempts, cameras"):
        preview(path, "")
    (tmp_path / "b.h5").write_text("no")
    with pytest.raises(NotAnArtifact):
        preview(tmp_path / "b.h5", "x")


def test_links_and_values_of_other_files_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret!!")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["link"] = h5py.ExternalLink("b.h5", "/x")
        file.create_dataset("raw", (1,), "int64", external=[(str(tmp_path / "secret"), 0, 8)])
    with pytest.raises(MissingItem):
        preview(tmp_path / "a.h5", "link")
    with pytest.raises(DamagedArtifact, match="another file"):
        preview(tmp_path / "a.h5", "raw")


def test_equal_files_do_not_differ(tmp_path: Path) -> None:
    arrays = {"photos/focal_prior_px": np.full(4, np.nan)}
    paths = [write_sample(tmp_path / name, "catalogue", **arrays) for name in ("a.h5", "b.h5")]
    found = difference(*paths)
    assert found.same and (found.options, found.made, found.datasets) == ((), (), ())
    assert found.equal == len(SAMPLES["catalogue"]())


def test_options_come_first_then_origin_then_values(tmp_path: Path) -> None:
    arrays = SAMPLES["pairs"]()
    other = {**arrays, "pairs/inliers": arrays["pairs/inliers"] + np.array([0, 5])}
    del other["pairs/source"]
    for name, values, options, inputs in (
        ("a.h5", arrays, {"a": {"b": 1, "c": 2}, "d": None}, SHA[:1]),
        ("b.h5", other, {"a": {"b": 1, "c": 3}}, SHA[1:2]),
    ):
        hdf5.write(tmp_path / name, "pairs", values, stage="s", options=options, inputs=inputs)
    found = difference(tmp_path / "a.h5", tmp_path / "b.h5")
    assert found.options == (Change("a.c", "2", "3"), Change("d", "null", ABSENT))
    assert found.made == (Change("inputs[0]", SHA[0], SHA[1]),)
    by_name = {each.name: each for each in found.datasets}
    assert set(by_name) == {"pairs/inliers[1]", "pairs/source"}
    first, second = (int(v) for v in (arrays["pairs/inliers"][1], other["pairs/inliers"][1]))
    assert by_name["pairs/inliers[1]"].first == str(first)
    assert by_name["pairs/inliers[1]"].second == f"{second}; 1 of 2 differ, by 5 at most"
    assert not found.same and json.loads(found.to_json())["same"] is False


def test_differing_shapes_types_and_kinds(tmp_path: Path) -> None:
    one, two = write_sample(tmp_path / "a.h5", "scan"), write_sample(tmp_path / "b.h5", "pairs")
    found = difference(one, two)
    assert Change("schema", "scan", "pairs") in found.made
    assert any(each.name == "pairs/first" and each.first == ABSENT for each in found.datasets)


def test_the_command_line_shows_tables_and_differences(tmp_path: Path) -> None:
    one = write_sample(tmp_path / "a.h5", "scene")
    two = write_sample(tmp_path / "b.h5", "scene", **{"points/error_px": np.array([0.1, 0.2, 0.4])})
    shown = RUN.invoke(app, ["inspect", str(one), "--dataset", "photos", "--rows", "2"])
    assert shown.exit_code == 0 and "ü.jpg" in shown.stdout and "4 rows; not shown: 2" in shown.stdout
    plain = RUN.invoke(app, ["inspect", str(one), "--dataset", "points/xyz", "--json"])
    assert json.loads(plain.stdout)["rows"][0] == [0.0, 1.0, 2.0]
    assert RUN.invoke(app, ["inspect", str(one), str(one)]).exit_code == 0
    changed = RUN.invoke(app, ["inspect", str(one), str(two), "--json"])
    assert changed.exit_code == 1
    assert json.loads(changed.stdout)["datasets"][0]["name"] == "points/error_px[2]"
    table = RUN.invoke(app, ["inspect", str(one), str(two)])
    assert table.exit_code == 1 and "points/error_px[2]" in table.stdout
    wrong = RUN.invoke(app, ["inspect", str(one), "--dataset", "nothing"])
    assert wrong.exit_code == 2 and "nothing" in wrong.stderr
    assert RUN.invoke(app, ["inspect", str(one), str(two), "--dataset", "x"]).exit_code == 2
    assert RUN.invoke(app, ["inspect", str(tmp_path / "none.h5")]).exit_code == 2
