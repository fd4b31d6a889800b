"""`evaluate` on miniatures of place-recognition sets in every layout that people have on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from flows.server.context import Session
from tests.flows.benchmark_folders import evaluate, noisy, numbers, put, scene


def run(name: str, root: Path, tmp_path: Path, network: Path, *more: object) -> dict[tuple[str, str], float]:
    result = evaluate(name, root, tmp_path / "store", "--network", network, "--image-size", 64,
                      "--csv", tmp_path / "a.csv", *more)  # fmt: skip
    assert result.exit_code == 0, result.output
    return numbers(tmp_path / "a.csv")


# query 0: the nearest in looks lies 25.1 m away, the second exactly 25 m; query 1: its first is right;
# query 2 has no positive, which is a failure
QUERIES = [
    ("q/0.jpg", scene(0), (0.0, 0.0)),
    ("q/1.jpg", scene(1), (1000.0, 0.0)),
    ("q/2.jpg", scene(2), (9e5, 0.0)),
]
DATABASE = [
    ("d/0.jpg", noisy(scene(0), 6), (25.1, 0.0)),
    ("d/1.jpg", noisy(scene(0), 20), (15.0, 20.0)),
    ("d/2.jpg", noisy(scene(1), 9), (1000.0, 3.0)),
]
EXPECTED = {("", "recall@1"): 100 / 3, ("", "recall@5"): 200 / 3, ("", "recall@20"): 200 / 3}


def check(found: dict[tuple[str, str], float]) -> None:
    for key, value in EXPECTED.items():
        assert found[key] == pytest.approx(value, abs=1e-5)


def put_all(root: Path, prefix: str = "") -> None:
    for name, pixels, _ in (*QUERIES, *DATABASE):
        put(root / prefix / name, pixels)


def test_any_set_from_csv(server: Session, network: Path, tmp_path: Path) -> None:
    root = tmp_path / "places"
    put_all(root)
    for file, rows in (("queries.csv", QUERIES), ("database.csv", DATABASE)):
        lines = [f"{name},{utm[0]},{utm[1]}" for name, _, utm in rows]
        (root / file).write_text("\n".join(["image,easting,northing", *lines]))
    check(run("places", root, tmp_path, network))
    # all within 30 m: only query 2 fails
    wide = run("places", root, tmp_path, network, "--protocol", "radius_m=30")
    assert wide["", "recall@1"] == pytest.approx(200 / 3, abs=1e-5)
    assert "radius 30 m" in (tmp_path / "a.csv").read_text()


def test_pitts30k_from_npz_and_lists(server: Session, network: Path, tmp_path: Path) -> None:
    root = tmp_path / "pitts30k"
    put_all(root, "images")
    arrays = {"utmQ": [utm for *_, utm in QUERIES], "utmDb": [utm for *_, utm in DATABASE]}
    np.savez(root / "pitts30k_test.npz", posDistThr=25, **arrays)
    (root / "pitts30k_imageNames_query.txt").write_text(
        "\n".join(f"./Pittsburgh250k/{n}" for n, *_ in QUERIES)
    )
    np.save(root / "pitts30k_test_dbImages.npy", np.array([name for name, *_ in DATABASE]))
    check(run("pitts30k", tmp_path, tmp_path, network))


def test_pitts30k_from_names(server: Session, network: Path, tmp_path: Path) -> None:
    for folder, rows in (("queries", QUERIES), ("database", DATABASE)):
        for name, pixels, (east, north) in rows:
            file = f"@{east:010.2f}@{north:010.2f}@17@T@{name.replace('/', '')}"
            put(tmp_path / "p" / "images" / "test" / folder / file, pixels)
    check(run("pitts30k", tmp_path / "p", tmp_path, network))


def tokyo(root: Path) -> None:
    """Twelve cutouts of a wrong panorama look nearer to the query than those of the right one."""
    database = [f"00001/pano{p}_{c:02}.jpg" for p in range(2) for c in range(12)]
    for number, name in enumerate(database):
        panorama, cutout = divmod(number, 12)
        pixels = noisy(scene(0), 2 + cutout) if panorama == 0 else noisy(scene(0), 40 + cutout)
        put((root / "images" / name).with_suffix(".png"), pixels)  # the official lists say .jpg
    put(root / "247query_v3" / "00010.jpg", scene(0))
    utm = np.array([[500.0, 0.0]] * 12 + [[20.0, 0.0]] * 12)
    names = np.empty(24, dtype=object)
    names[:] = database
    query = np.empty(1, dtype=object)
    query[:] = ["00010.jpg"]
    fields = {
        "whichSet": "test", "dbImageFns": names.reshape(-1, 1), "utmDb": utm.T,
        "qImageFns": query.reshape(-1, 1), "utmQ": np.zeros((2, 1)),
        "numImages": 24, "numQueries": 1, "posDistThr": 25,
    }  # fmt: skip
    savemat(str(root / "tokyo247.mat"), {"dbStruct": fields})


def test_tokyo_from_mat(server: Session, network: Path, tmp_path: Path) -> None:
    tokyo(tmp_path / "tokyo247")
    found = run("tokyo247", tmp_path, tmp_path, network)
    assert [found["per cutout", f"recall@{n}"] for n in (1, 5, 10, 20)] == [0, 0, 0, 100]
    assert [found["one per panorama", f"recall@{n}"] for n in (1, 5, 10, 20)] == [0, 100, 100, 100]


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    def refused(name: str, root: Path) -> str:
        result = evaluate(name, root, tmp_path / "store")
        assert result.exit_code == 2 and "Traceback" not in result.output
        return str(result.output)

    assert "is no folder" in refused("places", tmp_path / "no")
    root = tmp_path / "set"
    root.mkdir()
    assert "has none of queries.csv + database.csv, pitts30k*.mat" in refused("pitts30k", root)
    (root / "queries.csv").write_text("image,east\n")
    (root / "database.csv").write_text("image,easting,northing\nd/0.jpg,1,nan\n")
    wanted = "; they must be image,easting,northing (a header image,easting,northing and numbers in metres"
    assert f"queries.csv, line 1: the columns are 'image,east'{wanted}" in refused("places", root)
    (root / "queries.csv").write_text("image,east,northing\na.jpg,1,2\n")
    assert f"queries.csv, line 1: the columns are 'image,east,northing'{wanted}" in refused("places", root)
    (root / "queries.csv").write_text("image,easting,northing\n")
    assert "queries.csv: has no row below the header; give one per photograph" in refused("places", root)
    (root / "queries.csv").write_text("image,easting,northing\na.jpg,1,2\nb.jpg,1,2\n")
    assert "a.jpg' is missing" in refused("places", root)
    put(root / "a.jpg", scene(0))
    assert "b.jpg' is missing (1 of 2 images in all)" in refused("places", root)
    (root / "queries.csv").unlink()
    assert "queries.csv' is missing" in refused("places", root)
    (root / "database.csv").unlink()
    (root / "tokyo247.mat").write_bytes(b"no matlab file")
    assert "is not an official dbStruct" in refused("tokyo247", root)
    np.savez(root / "pitts30k_test.npz", utmQ=np.zeros((1, 2)), utmDb=np.zeros((2, 2)), posDistThr=25)
    assert "no pitts30k*qImages.npy or pitts30k*query.txt" in refused("pitts30k", root)
    (root / "pitts30k_query.txt").write_text("a.jpg\n")
    (root / "pitts30k_index.txt").write_text("a.jpg\n")
    assert "take files of one and the same set" in refused("pitts30k", root)
