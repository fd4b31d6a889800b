"""`evaluate` on miniatures of the landmark benchmarks, from the official files to the numbers."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from flows.server.context import Session
from retrieval.training.options import NETWORK_FILE
from retrieval.whitening.whitening import learn_pca_whitening
from storage.keys.options import Options
from storage.keys.stages import Stage
from storage.store import ledger
from storage.store.store import Store
from tasks.engine.runtime import reset_tallies
from tests.flows.benchmark_folders import evaluate, noisy, numbers, put, ran, scene

FULL = (96, 64)
BOX = (0.0, 0.0, 64.0, 64.0)


@pytest.fixture
def revisited(tmp_path: Path) -> Path:
    """Two queries; of each a negative that is its exact crop, then with ever more noise junk, easy, hard."""
    root = tmp_path / "data" / "roxford5k"
    truth: dict[str, Any] = {"imlist": [], "qimlist": [], "gnd": []}
    for q in range(2):
        whole = scene(q, 64, 96)
        put(root / "jpg" / f"query {q}.jpg", whole)
        truth["qimlist"].append(f"query {q}")
        crop, start = whole[:, :64], len(truth["imlist"])
        for number, amount in enumerate((0, 12, 25, 45)):
            truth["imlist"].append(f"é{q}_{number}")
            put(root / "jpg" / f"é{q}_{number}.jpg", noisy(crop, amount))
        labels = {"junk": [start + 1], "easy": [start + 2], "hard": np.array([start + 3])}
        truth["gnd"].append({"bbx": np.array(BOX), **labels})
    for number in range(3):
        truth["imlist"].append(f"other_{number}")
        put(root / "jpg" / f"other_{number}.jpg", scene(10 + number))
    (root / "jpg" / "._other_0.jpg").write_bytes(b"what another system leaves behind")
    (root / "gnd_roxford5k.pkl").write_bytes(pickle.dumps(truth))
    return tmp_path / "data"


def test_revisited_by_hand(server: Session, network: Path, revisited: Path, tmp_path: Path) -> None:
    files = {name: tmp_path / f"out.{name}" for name in ("csv", "latex", "png")}
    result = evaluate(
        "roxford5k", revisited, tmp_path / "store", "--network", network, "--image-size", 96,
        "--csv", files["csv"], "--latex", files["latex"], "--sheet", files["png"],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    found = numbers(files["csv"])
    # lists: negative, junk, easy, hard. Easy and, with the easy one as junk, hard: rank 1 -> (0 + 1/2)/2;
    # medium: ranks 1 and 2 -> ((0 + 1/2)/2 + (1/2 + 2/3)/2)/2
    assert found["easy", "mAP"] == pytest.approx(25)
    assert found["hard", "mAP"] == pytest.approx(25)
    assert found["medium", "mAP"] == pytest.approx(100 * (1 / 4 + 7 / 12) / 2, abs=1e-5)
    assert found["medium", "mP@1"] == 0 and found["medium", "mP@10"] == pytest.approx(100 * 2 / 3, abs=1e-5)
    assert "25.00" in result.output and "medium" in result.output
    assert r"medium & 41.67 & 0.00 & 66.67 & 66.67 \\" in files["latex"].read_text()
    with Image.open(files["png"]) as sheet:
        assert sheet.format == "PNG" and min(sheet.size) > 300
    store = Store.open(tmp_path / "store")
    (path,) = (store.root / "benchmark").glob("*.h5")
    with h5py.File(path) as file:
        assert file["ranks"][:, :4].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
        np.testing.assert_allclose(file["scores"][:, 0], 1, atol=1e-5)
        np.testing.assert_allclose(file["per_query/AP medium"][:], (1 / 4 + 7 / 12) / 2)


def test_a_second_configuration_describes_nothing(
    server: Session, network: Path, revisited: Path, tmp_path: Path
) -> None:
    common = (revisited, tmp_path / "store", "--network", network, "--image-size", 96)
    assert evaluate("roxford5k", *common).exit_code == 0
    reset_tallies()
    second = evaluate("roxford5k", *common, "--qe", "2,3", "--csv", tmp_path / "b.csv")
    assert second.exit_code == 0, second.output
    assert not ran(second, "benchmark_descriptors") and ran(second, "benchmark")
    assert "alpha=3, k=2" in (tmp_path / "b.csv").read_text()
    third = evaluate("roxford5k", *common, "--rerank", "4,2", "--csv", tmp_path / "b.csv")
    assert third.exit_code == 0, third.output
    assert not ran(third, "benchmark_descriptors")
    assert "neighbours, M=4, K=2, beta=0.15" in " ".join(third.output.split())
    assert '"neighbours, M=4, K=2, beta=0.15"' in (tmp_path / "b.csv").read_text()
    reset_tallies()
    again = evaluate("roxford5k", *common)
    assert again.exit_code == 0 and not ran(again, "benchmark")
    reset_tallies()
    copy = shutil.copy(network, tmp_path / "another name.safetensors")
    common = (*common[:3], copy, *common[4:])
    renamed = evaluate("roxford5k", *common, "--csv", tmp_path / "c.csv")
    assert renamed.exit_code == 0 and not ran(renamed, "benchmark_descriptors")
    assert ",another name.safetensors,raw," in (tmp_path / "c.csv").read_text()


def test_the_network_of_a_run(server: Session, network: Path, revisited: Path, tmp_path: Path) -> None:
    store = Store.create(tmp_path / "store", min_free_bytes=0)
    trained = store.produce(
        Stage(name="finetune", kind="directory"),
        Options(),
        ["x"],
        lambda out: shutil.copy(network, out / NETWORK_FILE) and None,
    )
    record = ledger.start(store, "town").with_refs({"finetune": trained}).finished("completed")
    ledger.save(store, record)
    common = (revisited, store.root, "--image-size", 96, "--csv", tmp_path / "a.csv")
    result = evaluate("roxford5k", *common, "--network", "latest")
    assert result.exit_code == 0, result.output
    assert numbers(tmp_path / "a.csv")["easy", "mAP"] == pytest.approx(25)
    assert "fine-tuned latest" in (tmp_path / "a.csv").read_text()
    # measuring is no run of the pipeline: the latest one stays
    assert ledger.load(store, "latest").id == record.id
    reset_tallies()
    whitening = learn_pca_whitening(np.random.default_rng(0).normal(size=(9, 512)))
    whitening.save(tmp_path / "w.h5")
    more = ("--network", record.id, "--whitening", tmp_path / "w.h5", "--dimensions", 5)
    second = evaluate("roxford5k", *common, *more)
    assert second.exit_code == 0, second.output
    assert not ran(second, "benchmark_descriptors")
    assert ",w.h5,96,1,5," in (tmp_path / "a.csv").read_text()


def test_distractors_follow_the_database(
    server: Session, network: Path, revisited: Path, tmp_path: Path
) -> None:
    whole = scene(0, 64, 96)
    put(tmp_path / "more" / "x" / "near.jpg", noisy(whole[:, :64], 1))
    put(tmp_path / "more" / "far.jpg", scene(99))
    result = evaluate(
        "roxford5k", revisited, tmp_path / "store", "--network", network, "--image-size", 96,
        "--distractors", tmp_path / "more", "--csv", tmp_path / "a.csv", "--sheet", tmp_path / "a.png",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    # of query 0 one more wrong image stands before the easy one: rank 2 -> (0 + 1/3)/2
    assert numbers(tmp_path / "a.csv")["easy", "mAP"] == pytest.approx(100 * (1 / 4 + 1 / 6) / 2, abs=1e-5)
    assert "roxford5k + 2 distractors" in (tmp_path / "a.csv").read_text()
    (path,) = (tmp_path / "store" / "benchmark").glob("*.h5")
    with h5py.File(path) as file:
        names = dict(
            zip(file["distractors/position"][:].tolist(), file["distractors/name"].asstr()[:], strict=True)
        )
        assert names == {11: "far.jpg", 12: "x/near.jpg"}
        assert file["ranks"][0, :3].tolist() in ([0, 12, 1], [12, 0, 1])


def test_ranks_of_others(server: Session, revisited: Path, tmp_path: Path) -> None:
    shutil.rmtree(revisited / "roxford5k" / "jpg")  # ranks are scored without images
    rows = [[2, 3, 0, 1, *range(4, 11)], [7, 6, 5, 4, 0, 1, 2, 3, 8, 9, 10]]
    np.save(tmp_path / "r.npy", np.array(rows))
    (tmp_path / "r.txt").write_text("\n".join(" ".join(map(str, row)) for row in rows))
    np.savez(tmp_path / "r.npz", ranks=np.array(rows, np.int32))
    with h5py.File(tmp_path / "r.h5", "w") as file:
        file["ranks"] = np.array(rows)
    for end in ("npy", "txt", "npz", "h5"):
        result = evaluate("roxford5k", revisited, tmp_path / "store", "--ranks", tmp_path / f"r.{end}",
                          "--csv", tmp_path / "r.csv")  # fmt: skip
        assert result.exit_code == 0, result.output
        assert numbers(tmp_path / "r.csv")["medium", "mAP"] == pytest.approx(100)
    shutil.copy(tmp_path / "r.npy", tmp_path / "theirs.npy")
    evaluate("roxford5k", revisited, tmp_path / "store", "--ranks", tmp_path / "theirs.npy",
             "--csv", tmp_path / "r.csv")  # fmt: skip
    assert "ranks theirs.npy" in (tmp_path / "r.csv").read_text()
    np.save(tmp_path / "r.npy", np.array(rows).T)
    result = evaluate("roxford5k", revisited, tmp_path / "store", "--ranks", tmp_path / "r.npy")
    assert result.exit_code == 1 and "transpose the official column layout" in result.output


def classic(root: Path, *, pickled: bool) -> None:
    """One query, cropped, itself in the database; good and ok after it, junk between, two others."""
    whole = scene(3, 64, 96)
    names = {"all_souls_000001": 0, "all_souls_000002": 15, "christ_000003": 30, "junk_000004": 8}
    for name, amount in names.items():
        put(root / "jpg" / f"{name}.jpg", noisy(whole, amount))
    for number in (5, 6):
        put(root / "jpg" / f"radcliffe_00000{number}.jpg", scene(number))
    if pickled:
        images = sorted([*names, "radcliffe_000005", "radcliffe_000006"])
        gnd = [{"bbx": [0.0, 0.0, 96.0, 64.0], "ok": [0, 1, 2], "junk": [images.index("junk_000004")]}]
        content = {"imlist": images, "qimlist": ["all_souls_000001"], "gnd": gnd}
        (root / "gnd_oxford5k.pkl").write_bytes(pickle.dumps(content))
        return
    text = root / "gt_files"
    text.mkdir()
    (text / "all_souls_1_query.txt").write_text("oxc1_all_souls_000001 0 0 96 64\n")
    (text / "all_souls_1_good.txt").write_text("all_souls_000001\nall_souls_000002\n")
    (text / "all_souls_1_ok.txt").write_text("christ_000003\n")
    (text / "all_souls_1_junk.txt").write_text("junk_000004\n")


@pytest.mark.parametrize("pickled", [True, False])
def test_classic_from_pickle_and_text(server: Session, network: Path, tmp_path: Path, pickled: bool) -> None:
    classic(tmp_path / "oxford", pickled=pickled)
    result = evaluate("oxford5k", tmp_path / "oxford", tmp_path / "store", "--network", network,
                      "--image-size", 96, "--csv", tmp_path / "a.csv")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert numbers(tmp_path / "a.csv") == {("", "mAP"): pytest.approx(100)}
    np.savetxt(tmp_path / "r.txt", [[4, 0, 3, 5, 1, 2]], fmt="%d")
    ranks = evaluate("oxford5k", tmp_path / "oxford", tmp_path / "store", "--ranks", tmp_path / "r.txt",
                     "--csv", tmp_path / "a.csv")  # fmt: skip
    assert ranks.exit_code == 0, ranks.output
    # without the junk image 3: ranks 1, 3, 4 of 3 positives
    expected = ((0 + 1 / 2) + (1 / 3 + 2 / 4) + (2 / 4 + 3 / 5)) / 2 / 3
    assert numbers(tmp_path / "a.csv")["", "mAP"] == pytest.approx(100 * expected, abs=1e-5)


def test_paris_has_a_folder_and_a_file_of_its_own(
    server: Session, network: Path, revisited: Path, tmp_path: Path
) -> None:
    (revisited / "roxford5k").rename(revisited / "rparis6k")
    (revisited / "rparis6k" / "gnd_roxford5k.pkl").rename(revisited / "rparis6k" / "gnd_rparis6k.pkl")
    classic(tmp_path / "paris6k", pickled=True)
    (tmp_path / "paris6k" / "gnd_oxford5k.pkl").rename(tmp_path / "paris6k" / "gnd_paris6k.pkl")
    common = (tmp_path / "store", "--network", network, "--image-size", 96, "--csv", tmp_path / "a.csv")
    result = evaluate("rparis6k", revisited, *common)
    assert result.exit_code == 0, result.output
    assert numbers(tmp_path / "a.csv")["medium", "mAP"] == pytest.approx(100 * (1 / 4 + 7 / 12) / 2, abs=1e-5)
    result = evaluate("paris6k", tmp_path, *common)
    assert result.exit_code == 0, result.output
    assert numbers(tmp_path / "a.csv") == {("", "mAP"): pytest.approx(100)}


def test_what_is_missing_is_named(revisited: Path, tmp_path: Path) -> None:
    def refused(name: str, data: Path, *more: object) -> str:
        result = evaluate(name, data, tmp_path / "store", *more)
        assert result.exit_code == 2 and "Traceback" not in result.output
        return str(result.output)

    assert "no folder" in refused("roxford5k", tmp_path / "nowhere")
    assert "no gnd_rparis6k.pkl in" in refused("rparis6k", revisited)
    (revisited / "roxford5k" / "jpg" / "é0_2.jpg").unlink()
    (revisited / "roxford5k" / "jpg" / "é1_0.jpg").unlink()
    assert "é0_2.jpg' is missing (2 of 11 images in all)" in refused("roxford5k", revisited)
    (tmp_path / "oxford5k" / "jpg").mkdir(parents=True)
    assert "neither 'gnd_oxford5k.pkl' nor *_query.txt" in refused("oxford5k", tmp_path)
    assert "roxford" in refused("roxfort5k", revisited)
    assert not (tmp_path / "store").exists()


def test_wrong_usage_is_named(revisited: Path, tmp_path: Path) -> None:
    for arguments, message in (
        (["--qe", "many"], "give K or K,ALPHA"),
        (["--rerank", "4,9"], "--rerank '4,9': M (top) 4, K (neighbours) 9"),
        (["--rerank", "4,2,1,0"], "give M or M,K or M,K,BETA"),
        (["--rerank", "few"], "--rerank 'few': top: Input should be a valid integer"),
        (["--scales", "1,1"], "each positive and once"),
        (["--dimensions", 5], "dimensions without a whitening"),
        (["--csv", tmp_path / "no" / "a.csv"], "is no folder"),
        (["--ranks", tmp_path / "r.npy"], "is no file"),
        (["--protocol", "upright"], "KEY=VALUE"),
        (["--distractors", tmp_path / "no"], "is no folder"),
    ):
        result = evaluate("roxford5k", revisited / "roxford5k", tmp_path / "store", *arguments)
        assert result.exit_code == 2, (arguments, result.output)
        assert message in " ".join(result.output.split()), result.output


def test_an_unknown_network_is_1_and_one_line(server: Session, revisited: Path, tmp_path: Path) -> None:
    for name in ("nothing.pth", "latest"):
        # the image files of a broken benchmark are never described
        result = evaluate("roxford5k", revisited, tmp_path / "store", "--network", name)
        assert result.exit_code == 1 and "is no file, and" in result.output
