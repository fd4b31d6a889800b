"""The report of a run: every part is there, nothing is fetched, nothing that a name says is obeyed."""

import json
import re
import shlex
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from flows.cli.main import app
from flows.run import report
from flows.run.pages import show_report
from flows.run.reproduction import command_of
from report.page import markup
from report.page.evaluation import Ranking, rankings
from report.page.lineage import stage_edges
from report.page.markup import Safe, bars, histogram, json_script, tag, text
from report.page.material import Material, Section
from report.page.models import _frustums, models_section, near
from report.page.page import sections, write_page
from report.page.pictures import Pictures
from storage.hdf5 import file as hdf5
from storage.store import ledger
from storage.store.ledger import RunRecord
from storage.store.store import Store
from tests.programs import BROWSER, needs_browser
from tests.report.conftest import HOSTILE, NAMES
from tests.storage.layout_samples import SHA

PARTS = (
    "photographs", "clusters", "models", "selection", "training", "evaluation", "costs", "lineage", "command",
)  # fmt: skip


class Reader(HTMLParser):
    """Elements, their attributes, the text of scripts by id, everything else's text."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str, str] = {}
        self.text = ""
        self._script: str | None = None

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((name, dict(attributes)))
        self._script = (dict(attributes).get("id") or "own") if name == "script" else None

    def handle_endtag(self, name: str) -> None:
        self._script = None

    def handle_data(self, data: str) -> None:
        if self._script is None:
            self.text += data
        else:
            self.scripts[self._script] = self.scripts.get(self._script, "") + data


def read(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    return reader


@pytest.fixture
def page(store: Store, record: RunRecord, tmp_path: Path) -> Path:
    out = tmp_path / "report.html"
    write_page(Material(store, record, "retrieval-sfm run <photos>"), out)
    return out


def test_every_part_is_there_with_a_link(page: Path) -> None:
    found = read(page)
    sections = [each["id"] for name, each in found.elements if name == "section"]
    assert sections == list(PARTS)
    links = {each["href"] for name, each in found.elements if name == "a"}
    assert {f"#{part}" for part in PARTS} <= links
    assert "cannot be shown" not in found.text
    for words in ("truncated; export it again", "cluster 0: 2 photographs", "retrieval-sfm run <photos>"):
        assert words in found.text


def test_a_section_is_declared_in_its_module_alone(
    store: Store, record: RunRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its place is its own, and two have not the same name; the page and its menu have what is declared."""
    assert len({each.name for each in sections()}) == len({each.place for each in sections()}) == len(PARTS)
    more = Section("weather", "sky", place=2, make=lambda material: tag("section", "rain", id="weather"))
    monkeypatch.setattr("report.page.costs.SECTIONS", (more,))
    sections.cache_clear()
    write_page(Material(store, record), tmp_path / "more.html")
    monkeypatch.undo()
    sections.cache_clear()
    found = read(tmp_path / "more.html")
    there = [each["id"] for name, each in found.elements if name == "section"]
    assert there[:3] == ["photographs", "weather", "clusters"] and "costs" not in there
    assert "#weather" in {each["href"] for name, each in found.elements if name == "a"}


def test_nothing_points_out_of_the_page(page: Path) -> None:
    found = read(page)
    for name, attributes in found.elements:
        for key in ("src", "href", "action", "data", "poster", "srcset", "formaction"):
            value = attributes.get(key) or ""
            assert value.startswith(("#", "data:")) or not value, (name, key, value)
    policy = next(each["content"] for _, each in found.elements if each.get("http-equiv"))
    assert policy and "default-src 'none'" in policy and "img-src data:" in policy
    style = re.search(r"<style>(.*?)</style>", page.read_text(), re.S)
    assert style and "url(" not in style[1] and "@import" not in style[1]


def test_names_are_text_and_never_markup(page: Path) -> None:
    found = read(page)
    own = [each for name, each in found.elements if name == "script"]
    assert len(own) == 4  # pictures, figures, plotly, the page's own
    assert "<b>few</b> clusters" in found.text and HOSTILE in found.text
    alts = {each.get("alt") for name, each in found.elements if name == "img"}
    assert HOSTILE in alts
    figures = json.loads(found.scripts["figures"])
    assert [name for _, name in figures["models"][0]["photographs"]] == [NAMES[0], NAMES[1]]


def test_each_picture_is_in_the_page_once(page: Path) -> None:
    found = read(page)
    pictures = json.loads(found.scripts["pictures"])
    shown = [int(each["data-p"] or -1) for name, each in found.elements if name == "img"]
    assert len(pictures) == len(set(pictures)) == 3 and set(shown) == {0, 1, 2} and len(shown) > 3


def test_the_same_run_gives_the_same_page(
    store: Store, record: RunRecord, page: Path, tmp_path: Path
) -> None:
    write_page(Material(store, record, "retrieval-sfm run <photos>"), tmp_path / "again.html")
    assert (tmp_path / "again.html").read_bytes() == page.read_bytes()


def test_ranked_photographs_are_marked_by_hand(store: Store, record: RunRecord) -> None:
    material = Material(store, record)
    path = material.path("evaluation")
    assert path is not None
    with hdf5.open_artifact(path) as artifact:
        found = rankings(material, artifact)
    assert found is not None
    marked = ((NAMES[2], "wrong"), (NAMES[1], "right"), (NAMES[3], "junk"))
    assert found[1:] == ("medium", [Ranking(NAMES[0], 0.5, marked)])


def test_lineage_by_hand(store: Store, record: RunRecord) -> None:
    assert stage_edges(Material(store, record)) == [
        ("working", "scene"), ("scene", "training_set"), ("training_set", "finetune"),
        ("finetune", "evaluation"), ("training_set", "evaluation"),
    ]  # fmt: skip


def test_a_damaged_part_says_so_and_the_others_stand(store: Store, record: RunRecord, tmp_path: Path) -> None:
    path = store.path(record.refs_of("evaluation")[0])
    path.write_bytes(path.read_bytes()[:900])
    write_page(Material(store, record), tmp_path / "report.html")
    found = read(tmp_path / "report.html")
    assert "This part cannot be shown: DamagedArtifact" in found.text
    assert "numbers of every epoch" in found.text


def test_a_run_that_made_nothing_has_a_page(store: Store, tmp_path: Path) -> None:
    empty = ledger.start(store, "empty")
    write_page(Material(store, empty), tmp_path / "report.html")
    found = read(tmp_path / "report.html")
    assert [each["id"] for name, each in found.elements if name == "section"] == ["costs"]
    assert "The run has not ended." in found.text
    assert (tmp_path / "report.html").stat().st_size < 100_000  # no library without a figure


def test_pictures_stop_at_their_budget(tmp_path: Path) -> None:
    from PIL import Image

    files = {}
    for number, sha in enumerate(SHA[:3]):
        files[sha] = tmp_path / f"{number}.jpg"
        Image.new("RGB", (300, 200), (40 * number, 9, 9)).save(files[sha])
    (tmp_path / "1.jpg").write_bytes(b"no picture")
    pictures = Pictures(files, {}, budget_bytes=1)
    assert [pictures.place(sha) for sha in (SHA[0], SHA[1], SHA[2], SHA[0], "unknown")] == [
        0, None, None, 0, None,
    ]  # fmt: skip
    assert pictures.left_out == 2
    assert 'class="nothing"' in pictures.show(SHA[2], "caption")


@pytest.mark.parametrize("value", [HOSTILE, "a\x00\x1b[2J\r\nb", "\udcff", '" onload="x', "&amp;"])
def test_text_cannot_leave_its_place(value: str) -> None:
    written = tag("p", value, title=value)
    reader = Reader()
    reader.feed(written)
    assert [name for name, _ in reader.elements] == ["p"] and set(reader.elements[0][1]) == {"title"}
    assert "\n" not in written and "\x1b" not in written
    assert text(Safe(value)) == value
    data = Reader()
    data.feed(json_script("x", {"a": value}))
    assert json.loads(data.scripts["x"]) == {"a": value} and len(data.elements) == 1


def test_histograms_by_hand() -> None:
    shown = histogram("t", np.array([1, 1, 2, 9, 100]), (0, 2, 5))
    assert re.findall(r'class="number">(\d+)<', shown) == ["2", "1", "2"]
    assert "width:0.0%" in bars("t", ["a"], [0])
    assert markup.number(float("nan")) == "–" and markup.number(0.5) == "0.5"
    labels = re.findall(r'<th scope="row">([^<]*)<', histogram("t", np.array([3]), (1, 2, 3, 5, 9)))
    assert labels == ["1", "2", "3–4", "5–8", "9 or more"]
    labels = re.findall(r'<th scope="row">([^<]*)<', histogram("t", np.array([0.5]), (0, 0.5, 1)))
    assert labels == ["0–0.5", "0.5–1", "1 or more"]


def test_columns_of_numbers_stand_to_the_right() -> None:
    shown = markup.table(("name", "scales", "mAP"), [("a", "1", "95.3 (82.0 to 99.0)"), ("b", "1+0.5", "–")])
    assert re.findall(r"<td( class=\"number\")?>", shown) == ["", "", ' class="number"'] * 2
    assert re.findall(r'<th scope="col"( class="number")?>', shown) == ["", "", ' class="number"']
    assert "number" not in markup.table(("made from",), [("–",)])


def test_frustums_open_where_the_camera_looks() -> None:
    """A camera at (5, 0, 0) that looks along +x: the corners lie at x = 5 + size."""
    looks_along_x = np.array([[[0, 0, -1.0], [0, 1, 0], [1, 0, 0]]])
    lines = _frustums(np.array([[5.0, 0, 0]]), looks_along_x, 2.0)
    known = lines[np.isfinite(lines).all(axis=1)]
    assert set(known[:, 0].round(6)) == {5.0, 7.0}
    assert {tuple(np.abs(row[1:]).round(6)) for row in known} == {(0.0, 0.0), (1.2, 1.6)}


def test_stray_points_do_not_shrink_the_model(store: Store, record: RunRecord) -> None:
    points = np.vstack([np.random.default_rng(0).normal(size=(100, 3)), [[1e6, 0, 0]]])
    assert near(points, np.zeros((1, 3))).tolist() == [True] * 100 + [False]
    material = Material(store, record)
    assert models_section(material) is not None
    assert material.figures["models"][0]["title"] == "0: 2 photographs, 3 points, error 0.50 px"


def test_the_command_makes_the_same_options(store: Store, record: RunRecord, tmp_path: Path) -> None:
    from flows.options.loading import load

    options = json.loads(json.dumps(record.options))
    options["training"]["epochs"] = 7
    options["selection"]["query_fraction"] = "auto"
    options["whitening"]["shrinkage_grid"] = [0.0, 0.5]
    changed = record.model_copy(update={"options": options})
    words = shlex.split(command_of(store, changed).replace("\\\n", " "))
    assert words[:3] == ["retrieval-sfm", "run", str(tmp_path / "my photos")]
    sets = [words[at + 1] for at, word in enumerate(words) if word == "--set"]
    again, _ = load(None, sets)
    del options["unknown"]
    assert again.model_dump(mode="json") == options


def test_the_command_line_writes_it_into_the_store(store: Store, record: RunRecord, tmp_path: Path) -> None:
    runner = CliRunner()
    found = runner.invoke(app, ["report", "--store", str(store.root)])
    path = report.report_path(store, record.id)
    assert found.exit_code == 0 and str(path) in found.stdout.replace("\n", "")
    assert path.stat().st_size < 15 * 2**20
    assert [each.id for each in ledger.records(store)] == [record.id]
    elsewhere = tmp_path / "x.html"
    assert runner.invoke(app, ["report", "--store", str(store.root), "--out", str(elsewhere)]).exit_code == 0
    assert elsewhere.is_file()
    for wrong in (["--run", "none"], ["--out", str(tmp_path)], ["--out", str(tmp_path / "no" / "x.html")]):
        assert runner.invoke(app, ["report", "--store", str(store.root), *wrong]).exit_code == 2
    ledger.delete(store, record.id)
    assert not path.exists()


def test_a_report_that_fails_does_not_fail_the_run(
    store: Store, record: RunRecord, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("no disk")

    assert report.report_run(store, record.id) == report.report_path(store, record.id)
    monkeypatch.setattr(report, "write_report", broken)
    show_report(store, record.id)
    assert f"report of run {record.id}: RuntimeError: no disk" in caplog.text


@needs_browser
def test_a_browser_shows_pictures_and_figures_without_an_error(page: Path, tmp_path: Path) -> None:
    """The page as Chromium has it after its script: images have a source, plotly has drawn both figures."""
    page.write_text(page.read_text().replace("<details>", "<details open>"))  # what is folded is not loaded
    command = [
        str(BROWSER), "--headless=new", "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader",
        "--enable-unsafe-swiftshader", f"--user-data-dir={tmp_path / 'profile'}", "--window-size=900,9000",
        "--virtual-time-budget=8000", "--enable-logging=stderr", "--dump-dom", page.as_uri(),
    ]  # fmt: skip
    found = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    errors = [line for line in found.stderr.splitlines() if "CONSOLE" in line and "GPU stall" not in line]
    assert not [line for line in errors if "Canvas2D" not in line]
    reader = Reader()
    reader.feed(found.stdout)
    images = [each for name, each in reader.elements if name == "img" and "data-p" in each]
    assert images and all((each.get("src") or "").startswith("data:image/webp") for each in images)
    classes = [each.get("class") or "" for _, each in reader.elements]
    assert sum("js-plotly-plot" in each for each in classes) == 2
    assert any(name == "canvas" for name, _ in reader.elements)
