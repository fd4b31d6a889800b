"""`index` and `search` on small pictures, from a folder to the table, the page and the deployed folder."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter
from typer.testing import CliRunner

from flows.cli import common as cli_common
from flows.cli import main
from flows.server.context import Session
from flows.serving.spatial import LocalFeatures, NoLocalFeatures
from retrieval.describe.images import load_photograph
from retrieval.nearest.expansion import Reranking
from retrieval.networks.network import build_network, save_network
from retrieval.networks.options import NetworkOptions
from retrieval.search.index import SearchIndex
from retrieval.whitening.whitening import Whitening
from storage.store import ledger
from storage.store.store import Store
from tasks.engine.runtime import reset_tallies
from tests.flows.benchmark_folders import noisy, put, ran, scene
from tests.retrieval.hloc_reader import read_as_hloc

ODD = "<b>é & co\nline [red].jpg"


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    for console in (cli_common.out, cli_common.err):
        monkeypatch.setattr(console, "_width", 250)


def fill(folder: Path) -> None:
    """Three scenes in two pictures each, one of them under an odd name; a copy; a file that is no picture."""
    for number in range(3):
        put(folder / f"{number} a.jpg", scene(number, 64, 96))
        put(folder / "sub" / f"{number} b.jpg", noisy(scene(number, 64, 96), 12))
    (folder / "0 a.jpg").rename(folder / ODD)
    shutil.copy(folder / "1 a.jpg", folder / "copy of 1.jpg")
    (folder / "broken.jpg").write_bytes(b"no picture")


def call(*arguments: object) -> Any:
    return CliRunner().invoke(main.app, [str(each) for each in arguments])


def listed(result: Any) -> list[str]:
    """The names of the table, best first."""
    assert result.exit_code == 0, result.output
    return [
        line.rstrip().split("  ")[-1].strip()
        for line in result.output.splitlines()
        if re.match(r" +\d+ ", line)
    ]


@pytest.fixture(scope="module")
def made(server: Session, network: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos/, a store with an index of it, and deployed/."""
    root = tmp_path_factory.mktemp("search")
    fill(root / "photos")
    result = call(
        "index", root / "photos", "--store", root / "store", "--network", network,
        "--image-size", 96, "--out", root / "deployed", "--hloc", root / "global.h5",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "6 photographs, exact index" in result.output
    assert "1 files are not in it:\n  broken.jpg: rejected: not an image" in result.output
    assert "of the exact first 10, 100.0 % are among the first 5 found" in result.output
    return root


def test_hloc_reads_the_same_descriptors(made: Path) -> None:
    index, found = SearchIndex.load(made / "deployed" / "index.h5"), read_as_hloc(made / "global.h5")
    assert found.keys() == set(index.names)
    for name, row in zip(index.names, index.descriptors, strict=True):
        np.testing.assert_array_equal(found[name], row)


def test_the_same_scene_comes_first(made: Path) -> None:
    found = listed(call("search", made / "photos" / "sub" / "1 b.jpg", "--store", made / "store"))
    assert len(found) == 6 and found[0] == "sub/1 b.jpg" and found[1] in ("1 a.jpg", "copy of 1.jpg")
    odd = listed(call("search", made / "photos" / ODD, "--store", made / "store", "--k", 2))
    assert odd == [ODD.replace("\n", "\\n"), "sub/0 b.jpg"]


def test_a_second_index_is_cached_and_one_more_photograph_is_one_description(
    made: Path, network: Path, tmp_path: Path
) -> None:
    for name in ("photos", "store"):
        shutil.copytree(made / name, tmp_path / name)
    again = (
        "index",
        tmp_path / "photos",
        "--store",
        tmp_path / "store",
        "--network",
        network,
        "--image-size",
        96,
    )
    reset_tallies()
    result = call(*again)
    assert result.exit_code == 0 and not ran(result, "search_index") and not ran(result, "descriptors")
    put(tmp_path / "photos" / "0000.jpg", scene(9, 64, 96))
    reset_tallies()
    result = call(*again)
    assert "7 photographs" in result.output and ran(result, "search_index")
    found = listed(call("search", tmp_path / "photos" / "0000.jpg", "--store", tmp_path / "store", "--k", 1))
    assert found == ["0000.jpg"]


def test_a_part_is_searched_alone(made: Path, tmp_path: Path) -> None:
    for number in (1, 2):
        other = np.zeros((32, 96, 3), np.uint8)
        put(tmp_path / "both.jpg", np.concatenate([scene(number, 64, 96), other]))
        arguments = ("search", tmp_path / "both.jpg", "--store", made / "store", "--box", "0,0,96,64")
        found = call(*arguments)
        assert all(str(number) in name for name in listed(found)[:2])
        assert "1.0000" in found.output
        assert "1.0000" not in call(*arguments[:-2]).output


def test_the_page_needs_no_other_file(made: Path, tmp_path: Path) -> None:
    page = tmp_path / "page é.html"
    result = call(
        "search", made / "photos" / ODD, "--store", made / "store", "--html", page, "--box", "0,0,50,50"
    )
    assert result.exit_code == 0 and f"page {page}" in result.output
    text = page.read_text(encoding="utf-8")
    assert text.count('src="data:image/jpeg;base64,') == 7
    assert "query: &lt;b&gt;é &amp; co\\nline [red].jpg, the part 0,0,50,50 px</figcaption>" in text
    assert "&lt;b&gt;é &amp; co\\nline [red].jpg" in text and "<b>" not in text
    assert not re.search(r'(src|href)="(?!data:)', text) and "<script" not in text
    gone = call(
        "search", made / "photos" / ODD, "--store", made / "store", "--html", page, "--photos", tmp_path
    )
    assert gone.exit_code == 0 and page.read_text(encoding="utf-8").count("cannot be read") == 6


def test_expansion_and_augmentation_change_scores(made: Path, network: Path, tmp_path: Path) -> None:
    query = ("search", made / "photos" / "sub" / "2 b.jpg", "--store", made / "store")
    plain, expanded = call(*query), call(*query, "--qe", "2,1")
    assert listed(expanded)[:2] == listed(plain)[:2] and expanded.output != plain.output
    shutil.copytree(made / "store", tmp_path / "store")
    result = call(
        "index", made / "photos", "--store", tmp_path / "store", "--network", network, "--image-size", 96,
        "--dba", "2",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    augmented = call("search", made / "photos" / "sub" / "2 b.jpg", "--store", tmp_path / "store")
    assert "2 a.jpg" in listed(augmented)[:2] and augmented.output != plain.output


def test_reranking_by_neighbours_moves_what_is_searched(made: Path) -> None:
    """By what the index says of the same query, and beside query expansion."""
    query = ("search", made / "photos" / "sub" / "2 b.jpg", "--store", made / "store")
    plain, again = call(*query), call(*query, "--rerank", "6,2,1")
    index = SearchIndex.load(made / "deployed" / "index.h5")
    row = index.descriptors[[index.names.index("sub/2 b.jpg")]]
    scores, names = index.query(row, 6, reranking=Reranking(top=6, neighbours=2, beta=1))
    shown = [ODD.replace("\n", "\\n") if name == ODD else name for name in names[0]]
    assert listed(again) == shown and again.output != plain.output
    told = [float(line.split()[1]) for line in again.output.splitlines() if re.match(r" +\d+ ", line)]
    np.testing.assert_allclose(told, scores[0], atol=1e-3)
    whole = call(*query, "--rerank", "400", "--k", 3)
    assert len(listed(whole)) == 3 and "2 a.jpg" in listed(whole)[:2]
    assert call(*query, "--qe", "2,1", "--rerank", "6,2,1").output not in (again.output, plain.output)


def test_a_deployed_folder_is_searched_without_a_store(made: Path, network: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "deployed", tmp_path / "there")
    query = made / "photos" / "sub" / "1 b.jpg"
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == ["index.h5", "network.safetensors"]
    by_store = listed(call("search", query, "--store", made / "store"))
    assert listed(call("search", query, "--index", tmp_path / "there")) == by_store
    alone = tmp_path / "alone.h5"
    shutil.move(tmp_path / "there" / "index.h5", alone)
    assert listed(call("search", query, "--index", alone, "--network", network)) == by_store


def test_an_index_that_is_damaged_or_another_networks_is_refused(made: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    query = made / "photos" / "sub" / "1 b.jpg"

    def refused(message: str, *more: object) -> None:
        result = call("search", query, "--index", there, *more)
        assert result.exit_code == 2 and message in result.output, result.output
        assert "Traceback" not in result.output

    shutil.copytree(made / "deployed", there)
    other = NetworkOptions(backbone="squeezenet1_1", weights="random", seed=2)
    save_network(build_network(other), there / "network.safetensors")
    refused("was made with network '")
    shutil.copy(made / "deployed" / "network.safetensors", there / "network.safetensors")
    Whitening(np.zeros(512), np.eye(512)).save(tmp_path / "w.h5")
    refused("was made with no whitening, not whitening '", "--whitening", tmp_path / "w.h5")
    content = (there / "index.h5").read_bytes()
    (there / "index.h5").write_bytes(content[: len(content) // 2])
    refused("is no readable index")
    (there / "index.h5").unlink()
    refused("is no file; give the index")


def test_a_whitened_index_takes_the_whitening_along(made: Path, network: Path, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    Whitening(generator.normal(size=512) * 0.01, generator.normal(size=(512, 512))).save(tmp_path / "w.h5")
    common = ("--network", network, "--image-size", 96, "--whitening", tmp_path / "w.h5")
    result = call(
        "index", made / "photos", "--store", tmp_path / "store", *common, "--dimensions", 32,
        "--kind", "hnsw", "--set", "links=4", "--precision", "bfloat16", "--draft",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    query = made / "photos" / "sub" / "0 b.jpg"
    first = ("search", query, "--store", tmp_path / "store", "--k", 2)
    found = call(*first, "--whitening", tmp_path / "w.h5", "--verify")
    assert sorted(listed(found)) == sorted(["sub/0 b.jpg", ODD.replace("\n", "\\n")])
    assert "hnsw index, 32 dimensions" in found.output
    (ref,) = ledger.latest(Store.open(tmp_path / "store"), kind="index").refs_of("search_index")  # type: ignore[union-attr]
    description = SearchIndex.load(tmp_path / "store" / ref.path).about["description"]
    assert (description["precision"], description["draft"]) == ("bfloat16", True)
    Whitening(np.zeros(512), np.eye(512)).save(tmp_path / "other.h5")
    refused = call(*first, "--whitening", tmp_path / "other.h5")
    assert refused.exit_code == 2 and "was made with whitening '" in refused.output


def test_what_is_asked_wrongly_is_named(made: Path, network: Path, tmp_path: Path) -> None:
    query, store = made / "photos" / "1 a.jpg", ("--store", made / "store")

    def refused(message: str, *arguments: object) -> None:
        result = call(*arguments)
        assert result.exit_code == 2 and message in result.output, result.output
        assert "Traceback" not in result.output

    refused("give --store, or --index", "search", query)
    refused("give --store, or --index", "search", query, *store, "--index", made / "deployed")
    refused("--network belongs to --index", "search", query, *store, "--network", network)
    refused("--spatial needs", "search", query, "--index", made / "deployed", "--spatial", 5)
    refused("is no file; give the photograph", "search", tmp_path, *store)
    refused("is no folder; make it", "search", query, *store, "--html", tmp_path / "no" / "a.html")
    refused("give four numbers", "search", query, *store, "--box", "1,2,3")
    refused("of 96 x 64 px", "search", query, *store, "--box", "0,0,500,10")
    refused("--qe 'x'", "search", query, *store, "--qe", "x")
    refused("--rerank 'x': top", "search", query, *store, "--rerank", "x")
    refused("K (neighbours) 6", "search", query, *store, "--rerank", "5,6")
    refused("is not in", "search", query, *store, "--run", "nothing")
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    refused("a.jpg", "search", tmp_path / "a.jpg", *store)
    Store.create(tmp_path / "empty", min_free_bytes=0)
    refused("no completed run that indexed", "search", query, "--store", tmp_path / "empty")
    refused("is no folder", "index", tmp_path / "no", *store)
    refused("write KEY=VALUE", "index", made / "photos", *store, "--set", "links")
    refused("code_byte", "index", made / "photos", *store, "--set", "code_byte=3")
    refused("whitening.h5, lw or pcaw", "index", made / "photos", *store, "--whitening", tmp_path / "no")
    refused(
        "dimensions without a whitening",
        "index",
        made / "photos",
        *store,
        "--whitening",
        "raw",
        "--dimensions",
        5,
    )
    refused("is there already", "index", made / "photos", *store, "--out", made / "deployed")
    refused("is there already", "index", made / "photos", *store, "--hloc", made / "global.h5")
    refused("is no folder", "index", made / "photos", *store, "--hloc", made / "no" / "global.h5")


def test_a_failed_index_is_one_line_and_no_run(made: Path, network: Path, tmp_path: Path) -> None:
    """A folder without photographs is none to begin with; one whose photographs are all damaged fails."""
    common = ("--store", tmp_path / "store", "--network", network)
    (tmp_path / "empty").mkdir()
    result = call("index", tmp_path / "empty", *common)
    assert result.exit_code == 2 and "Traceback" not in result.output
    assert f"0 photographs in {str(tmp_path / 'empty')!r}: it is empty" in result.output
    assert not list((tmp_path / "store").glob("runs/*.json"))
    put(tmp_path / "damaged" / "half.jpg", scene(0, 64, 96))
    whole = (tmp_path / "damaged" / "half.jpg").read_bytes()
    (tmp_path / "damaged" / "half.jpg").write_bytes(whole[: len(whole) // 2])
    result = call("index", tmp_path / "damaged", *common)
    assert result.exit_code == 1 and "holds no usable photograph; 'half.jpg' is rejected" in result.output
    result = call("index", made / "photos", *common, "--kind", "ivf_pq", "--image-size", 64)
    assert result.exit_code == 1 and "ivf_pq of 6 descriptors" in result.output
    result = call("index", made / "photos", *common, "--whitening", "lw")
    assert result.exit_code == 1 and "give a run as the network" in result.output
    statuses = [record.status for record in ledger.records(Store.open(tmp_path / "store"))]
    assert statuses and set(statuses) == {"failed"}


@pytest.fixture(scope="module")
def textured(server: Session, network: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """photos/: two textures, one of them in two overlapping pictures; a store with both runs."""
    root = tmp_path_factory.mktemp("textured")
    generator = np.random.default_rng(0)
    for number in range(2):
        noise = Image.fromarray(generator.integers(0, 256, (260, 380, 3), dtype=np.uint8))
        texture = np.asarray(noise.filter(ImageFilter.BoxBlur(3)))
        put(root / "photos" / f"{number} a.png", texture[:240, :320])
        put(root / "photos" / f"{number} b.png", texture[20:260, 60:380])
    arguments = [root / "photos", "--store", root / "store"]
    small = ("--set", "reconstruction.features.peak_threshold=0.002")
    # one texture alone is no scene: what matters here are the local features that the run has by then
    call("run", *arguments, *small, "--until", "reconstruct")
    result = call("index", *arguments, "--network", network, "--image-size", 64)
    assert result.exit_code == 0, result.output
    return root


def test_what_agrees_with_one_geometry_comes_first(textured: Path) -> None:
    query = textured / "photos" / "0 b.png"
    result = call("search", query, "--store", textured / "store", "--spatial", 4)
    assert listed(result)[:2] == ["0 b.png", "0 a.png"]
    rows = [line.split() for line in result.output.splitlines() if re.match(r" +\d+ ", line)]
    assert [int(row[2]) >= 15 for row in rows] == [True, True, False, False]
    assert int(rows[0][2]) > int(rows[1][2])
    part = call("search", query, "--store", textured / "store", "--spatial", 4, "--box", "0,0,160,240")
    assert listed(part)[:2] == ["0 b.png", "0 a.png"]
    assert "inliers" not in call("search", query, "--store", textured / "store").output


def test_photographs_without_local_features_stay_where_they_are(textured: Path) -> None:
    local = LocalFeatures.of(Store.open(textured / "store"), "photos")
    shas = sorted(local.files)
    found = local.inliers(textured / "photos" / "0 b.png", None, ["0" * 64, *shas])
    assert found[0] == -1 and sorted(found[1:] >= 15) == [False, False, True, True]
    nothing = local.inliers(textured / "photos" / "0 b.png", None, ["0" * 64])
    np.testing.assert_array_equal(nothing, [-1])


def test_without_a_run_spatial_verification_says_what_to_do(made: Path) -> None:
    query = made / "photos" / "1 a.jpg"
    result = call("search", query, "--store", made / "store", "--spatial", 3)
    assert result.exit_code == 2 and "retrieval-sfm run PHOTOS --until reconstruct" in result.output
    with pytest.raises(NoLocalFeatures, match="no run in"):
        LocalFeatures.of(Store.open(made / "store"), "other")


def test_the_index_holds_what_the_network_says(made: Path, network: Path) -> None:
    from retrieval.describe.describe import extract
    from retrieval.networks.network import load_network

    index = SearchIndex.load(made / "deployed" / "index.h5")
    place = index.names.index("sub/2 b.jpg")
    photograph = load_photograph(made / "photos" / "sub" / "2 b.jpg", None)
    expected = extract(load_network(network), [photograph], image_size=96)
    np.testing.assert_allclose(index.descriptors[place], expected[0], atol=1e-6)
