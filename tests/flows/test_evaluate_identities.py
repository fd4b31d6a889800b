"""`evaluate` on miniatures of re-identification sets, Holidays, ImageNet and GLDv2."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.server.context import Session
from retrieval.official.readers.files import MissingBenchmarkFile
from retrieval.official.registry import read_benchmark
from tests.flows.benchmark_folders import Pixels, evaluate, noisy, numbers, put, scene

Numbers = dict[tuple[str, str], float]


def run(name: str, root: Path, tmp_path: Path, *more: object) -> Numbers:
    result = evaluate(name, root, tmp_path / "store", "--image-size", 64, "--csv", tmp_path / "a.csv", *more)
    assert result.exit_code == 0, result.output
    return numbers(tmp_path / "a.csv")


# identity 1 by camera 1, in its list: the same camera (taken out), another identity, the match
QUERY = {(1, 1): scene(0), (9, 1): scene(5)}
GALLERY = {
    (1, 1): noisy(scene(0), 3),
    (2, 2): noisy(scene(0), 8),
    (1, 2): noisy(scene(0), 20),
    (0, 4): scene(7),
}


def market(root: Path) -> None:
    def name(identity: int, camera: int) -> str:
        return f"{identity:04d}_c{camera}s1_000451_03.jpg"

    for folder, images in (("query", QUERY), ("bounding_box_test", GALLERY)):
        for key, pixels in images.items():
            put(root / folder / name(*key), pixels)
    put(root / "bounding_box_test" / "-1_c3s1_000001_00.jpg", scene(0))  # shows nobody: dropped


def veri(root: Path) -> None:
    for listed, folder, images in (("query", "image_query", QUERY), ("test", "image_test", GALLERY)):
        names = [f"{identity:04d}_c{camera:03d}_00016450_0.jpg" for identity, camera in images]
        for name, pixels in zip(names, images.values(), strict=True):
            put(root / folder / name, pixels)
        (root / f"name_{listed}.txt").write_text("\n".join(names))


def msmt(root: Path) -> None:
    for listed, images in (("query", QUERY), ("gallery", GALLERY)):
        lines = []
        for (identity, camera), pixels in images.items():
            name = f"{identity:04d}/{identity:04d}_{len(lines):03d}_{camera:02d}_0303morning_{listed}_0.jpg"
            put(root / "test" / name, pixels)
            lines.append(f"{name} {identity}")
        (root / f"list_{listed}.txt").write_text("\n".join(lines))


@pytest.mark.parametrize(("name", "make"), [("market1501", market), ("veri776", veri), ("msmt17", msmt)])
def test_reid_by_hand(
    server: Session, network: Path, tmp_path: Path, name: str, make: Callable[[Path], None]
) -> None:
    make(tmp_path / name)
    found = run(name, tmp_path, tmp_path, "--network", network, "--sheet", tmp_path / "a.png")
    # one query counts, identity 9 has no match; its match stands second of what is kept
    assert found == {
        ("", "mAP"): pytest.approx(50),
        ("", "mINP"): pytest.approx(50),
        ("", "rank-1"): 0,
        ("", "rank-5"): 100,
        ("", "rank-10"): 100,
    }
    assert (tmp_path / "a.png").stat().st_size > 1000


def holidays(root: Path) -> None:
    images: dict[str, Pixels] = {
        "100000": scene(0),
        "100001": noisy(scene(0), 30),
        "100100": scene(1),
        "100101": noisy(scene(1), 9),
        "100201": noisy(scene(0), 6),
    }
    for name, pixels in images.items():
        put(root / "jpg" / f"{name}.jpg", pixels)


def test_holidays_by_hand(server: Session, network: Path, tmp_path: Path) -> None:
    holidays(tmp_path / "h")
    found = run("holidays", tmp_path / "h", tmp_path, "--network", network)
    # itself left out, the match of 100000 stands behind 100201: (0/1 + 1/2)/2; 100100: 1
    assert found == {("", "mAP"): pytest.approx(62.5)}
    assert "original images" in (tmp_path / "a.csv").read_text()
    (tmp_path / "r.txt").write_text(
        "100100.jpg 0 100101.jpg 1 100000.jpg\n100000.jpg 0 100001.jpg 2 100201.jpg 1 100000.jpg\n"
    )
    ranks = run(
        "holidays", tmp_path / "h", tmp_path, "--ranks", tmp_path / "r.txt", "--protocol", "upright=true"
    )
    assert ranks == {("", "mAP"): pytest.approx(100)}
    assert "upright images" in (tmp_path / "a.csv").read_text()
    put(tmp_path / "more" / "a.jpg", noisy(scene(0), 3))
    more = run("holidays", tmp_path / "h", tmp_path, "--network", network, "--distractors", tmp_path / "more")
    assert more["", "mAP"] == pytest.approx(100 * ((0 + 1 / 3) / 2 + 1) / 2, abs=1e-5)


def imagenet(root: Path) -> None:
    for number, name in enumerate(("n01440764", "n01443537")):
        for copy in range(3):
            put(root / "train" / name / f"{name}_{copy}.JPEG", noisy(scene(number), 5 + copy, copy))
        put(root / "val" / name / f"val_{number}.JPEG", noisy(scene(number), 9))
    put(root / "val" / "n01443537" / "val_wrong.JPEG", noisy(scene(0), 9, 3))  # looks like the other class


def test_imagenet_by_hand(server: Session, network: Path, tmp_path: Path) -> None:
    imagenet(tmp_path / "imagenet")
    found = run("imagenet", tmp_path, tmp_path, "--network", network)
    two_thirds = pytest.approx(200 / 3, abs=1e-5)
    assert found == {
        ("weighted k-NN, k=6", "top-1"): two_thirds,
        ("weighted k-NN, k=6", "top-5"): 100,
        ("linear probe, 30 epochs", "top-1"): two_thirds,
        ("linear probe, 30 epochs", "top-5"): 100,
    }
    without = run("imagenet", tmp_path, tmp_path, "--network", network, "--protocol", "probe_epochs=0")
    assert len(without) == 2


def gldv2(root: Path) -> None:
    index = {"aaa1": 25, "bbb2": 6, "ccc3": 12}
    for name, amount in index.items():
        put(root / "index" / name[0] / name[1] / name[2] / f"{name}.jpg", noisy(scene(0), amount))
    for name in ("0011", "0022", "0033"):
        put(root / "test" / name[0] / name[1] / name[2] / f"{name}.jpg", scene(0))
    (root / "retrieval_solution_v2.1.csv").write_text(
        "id,images,Usage\n0011,bbb2 aaa1,Private\n0022,aaa1,Public\n0033,None,Ignored\n"
    )


def test_gldv2_by_hand(server: Session, network: Path, tmp_path: Path) -> None:
    gldv2(tmp_path / "gldv2")
    found = run("gldv2", tmp_path, tmp_path, "--network", network)
    # every list: bbb2, ccc3, aaa1
    assert found["private", "mAP@100"] == pytest.approx(100 * (1 + 2 / 3) / 2, abs=1e-5)
    assert found["public", "mAP@100"] == pytest.approx(100 / 3, abs=1e-5)
    (tmp_path / "submission.csv").write_text("id,images\n0022,aaa1 bbb2\n0011,ccc3\n")
    ranks = run("gldv2", tmp_path, tmp_path, "--ranks", tmp_path / "submission.csv")
    assert ranks == {("private", "mAP@100"): 0, ("public", "mAP@100"): 100}


def test_ranks_need_no_images_where_lists_name_them(tmp_path: Path) -> None:
    for name, make in (("veri776", veri), ("msmt17", msmt), ("holidays", holidays)):
        make(tmp_path / name)
    names = sorted(path.name for path in (tmp_path / "holidays" / "jpg").iterdir())
    (tmp_path / "holidays" / "holidays_images.dat").write_text("\n".join(names))
    for name, folders in (
        ("veri776", ["image_query", "image_test"]),
        ("msmt17", ["test"]),
        ("holidays", ["jpg"]),
    ):
        before = read_benchmark(name, tmp_path)  # type: ignore[arg-type]
        for folder in folders:
            shutil.rmtree(tmp_path / name / folder)
        after = read_benchmark(name, tmp_path, images=False)  # type: ignore[arg-type]
        assert len(after.database) == len(before.database) and after.query_names is not None
        for old, new in zip(before.labelled, after.labelled, strict=True):
            assert old.tolist() == new.tolist()
        with pytest.raises(MissingBenchmarkFile):
            read_benchmark(name, tmp_path)  # type: ignore[arg-type]


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    def refused(name: str, *more: object) -> str:
        result = evaluate(name, tmp_path, tmp_path / "store", *more)
        assert result.exit_code == 2 and "Traceback" not in result.output, result.output
        return str(result.output)

    assert "no bounding_box_test in" in refused("market1501")
    market(tmp_path / "market1501")
    for path in (tmp_path / "market1501" / "query").iterdir():
        path.unlink()
    assert "no *.jpg in" in refused("market1501")
    veri(tmp_path / "veri776")
    (tmp_path / "veri776" / "image_test" / "0001_c001_00016450_0.jpg").unlink()
    assert "0001_c001_00016450_0.jpg' is missing (1 of 4" in refused("veri776")
    msmt(tmp_path / "msmt17")
    (tmp_path / "msmt17" / "list_query.txt").write_text("0000/name.jpg\n")
    assert "expected lines such as 0000/0000_000_01" in refused("msmt17")
    (tmp_path / "msmt17" / "list_gallery.txt").unlink()
    msmt_lines = "0001/0001_000_01_0303morning_query_0.jpg 1\n"
    (tmp_path / "msmt17" / "list_query.txt").write_text(msmt_lines)
    assert "list_gallery.txt' is missing" in refused("msmt17")
    assert "holidays: no jpg in" in refused("holidays")
    holidays(tmp_path / "holidays")
    (tmp_path / "holidays" / "holidays_images.dat").write_text("100000.jpg\n100009.jpg\n")
    assert "100009.jpg' is missing (1 of 2" in refused("holidays")
    imagenet(tmp_path / "imagenet")
    (tmp_path / "imagenet" / "train" / "n01443537").rename(tmp_path / "imagenet" / "train" / "n0")
    assert "is a class that train does not have" in refused("imagenet")
    gldv2(tmp_path / "gldv2")
    (tmp_path / "gldv2" / "index" / "a" / "a" / "a" / "aaa1.jpg").unlink()
    assert "aaa1.jpg' is missing (1 positives in all)" in refused("gldv2")
    (tmp_path / "gldv2" / "retrieval_solution_v2.1.csv").unlink()
    assert "no retrieval_solution_v2*.csv in" in refused("gldv2")
