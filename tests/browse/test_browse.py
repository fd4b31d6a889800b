"""The server of `browse`, as a process: it shows what is there, nothing beyond, whatever a request asks."""

import http.client
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import h5py
import numpy as np
import psutil
import pytest

from browse.confinement import Refused, Scope
from tests.programs import BROWSER, needs_browser
from tests.storage.layout_samples import write_sample

ROOT = Path(__file__).resolve().parents[2]
SECRET = b"do not show"
MAGIC = b"\x89HDF\r\n\x1a\n"


@dataclass(frozen=True)
class Served:
    """A folder that a running server shows, and its port."""

    folder: Path
    port: int

    def ask(
        self, target: str, method: str = "GET", host: str | None = None, body: bytes | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers, body. The target goes out as it is, without being tidied."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.putrequest(method, target, skip_host=True)
            connection.putheader("Host", host or f"127.0.0.1:{self.port}")
            connection.putheader("Content-Length", str(len(body or b"")))
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def api(self, question: str, file: str, path: str = "/", more: str = "") -> tuple[int, bytes]:
        status, _, content = self.ask(
            f"/api/{question}?file={quote(file, safe='')}&path={quote(path, safe='')}{more}"
        )
        return status, content


def serve(path: Path) -> Iterator[int]:
    """The port of a server on a path."""
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.cli.main", "browse", str(path), "--no-open"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert process.stdout is not None
    try:
        address = process.stdout.readline().split()[0]
        assert address.startswith("http://127.0.0.1:"), address
        yield int(address.rstrip("/").rpartition(":")[2])
        assert process.poll() is None, "the server has ended"
    finally:
        process.terminate()
        process.wait(timeout=20)
        process.stdout.close()


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder beside the one that is shown: a secret, as text and in an HDF5 file."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "secret.txt").write_bytes(SECRET)
    with h5py.File(folder / "secret.h5", "w") as file:
        file["values"] = np.frombuffer(SECRET, np.uint8)
    (folder / "raw.bin").write_bytes(SECRET)
    return folder


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory, outside: Path) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("shown") / "store é"
    (folder / "scan").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    write_sample(folder / "scan" / "a b.h5", "scene")
    shutil.copy(outside / "secret.h5", folder / ".hidden" / "secret.h5")
    shutil.copy(outside / "secret.h5", folder / ".secret.h5")
    (folder / "notes.txt").write_bytes(SECRET)
    (folder / "damaged.h5").write_bytes(MAGIC + b"\x00" * 400)
    (folder / "foreign.h5").write_bytes(b"no HDF5 at all")
    os.symlink(outside / "secret.h5", folder / "link.h5")
    os.symlink(outside, folder / "away")
    os.mkfifo(folder / "pipe.h5")
    with h5py.File(folder / "sly.h5", "w") as file:
        file["own"] = np.arange(6.0).reshape(2, 3)
        file["external"] = h5py.ExternalLink(str(outside / "secret.h5"), "/values")
        file["soft"] = h5py.SoftLink("/external")
        file.create_dataset(
            "raw", (len(SECRET),), np.uint8, external=[(str(outside / "raw.bin"), 0, len(SECRET))]
        )
        layout = h5py.VirtualLayout((len(SECRET),), np.uint8)
        layout[:] = h5py.VirtualSource(str(outside / "secret.h5"), "values", (len(SECRET),))
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("huge", (1 << 40,), np.float64, chunks=(1024,))
    for port in serve(folder):
        yield Served(folder, port)


def test_the_list_and_a_dataset(shown: Served) -> None:
    status, headers, page = shown.ask("/")
    assert status == 200 and "connect-src" not in headers["content-security-policy"]
    assert "default-src 'self'" in headers["content-security-policy"]
    text = page.decode()
    for name in ("scan%2Fa%20b.h5", "damaged.h5", "sly.h5"):
        assert f"view?file={name}" in text
    for name in ("link.h5", "away", "hidden", "secret", "notes", "pipe"):
        assert name not in text
    status, content = shown.api("meta", "scan/a b.h5")
    assert status == 200 and "photos" in {each["name"] for each in json.loads(content)["children"]}
    assert json.loads(shown.api("data", "sly.h5", "/own")[1]) == [[0, 1, 2], [3, 4, 5]]
    assert json.loads(shown.api("data", "sly.h5", "/own", "&selection=1,0:2")[1]) == [3, 4]
    assert json.loads(shown.api("stats", "sly.h5", "/own")[1])["max"] == 5
    assert "/photos/name" in json.loads(shown.api("paths", "scan/a b.h5")[1])
    assert "schema" in json.loads(shown.api("attr", "scan/a b.h5")[1])


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "MKCOL", "MOVE"])
@pytest.mark.parametrize("target", ["/", "/api/data?file=sly.h5&path=/own", "/static/h5web.js"])
def test_nothing_can_be_written(shown: Served, method: str, target: str) -> None:
    before = (shown.folder / "sly.h5").read_bytes()
    status, headers, _ = shown.ask(target, method, body=b"[9]")
    assert status == 405 and headers["allow"] == "GET, HEAD"
    assert (shown.folder / "sly.h5").read_bytes() == before


def escapes(outside: Path) -> list[str]:
    """What a request may write for the file, as it stands in the address."""
    up = "../" * 12
    there = str(outside / "secret.h5")
    plain = [
        there, f"/{there}", f"file://{there}", f"scan/../../{outside.name}/secret.h5", f"{up}{there[1:]}",
        "..", ".", "", "/", "scan", "scan/", "away/secret.h5", "link.h5", "pipe.h5", "notes.txt",
        ".secret.h5", ".hidden/secret.h5", "./sly.h5", "scan/./a b.h5", "scan//a b.h5", "sly.h5/", "/sly.h5",
        "SLY.H5", "sly.h5\0", "sly.h5\0.txt", "..\\secret.h5", "C:\\secret.h5", "~/secret.h5",
        "\uff0e\uff0e/secret.h5", "..\u2215secret.h5", "x" * 5000 + ".h5", "scan/a b.h5/../../sly.h5",
    ]  # fmt: skip
    raw = [
        "%2e%2e%2fsecret.h5", "%2e%2e/secret.h5", "..%2f..%2fsecret.h5", "%252e%252e%252fsecret.h5",
        "..%c0%af..%c0%afsecret.h5", "%c0%ae%c0%ae/secret.h5", "..%5csecret.h5", "%u002e%u002e/secret.h5",
        f"%2f{quote(there[1:], safe='')}", "sly.h5%00", "sly.h5%00.h5", "%ff%fe.h5",
    ]  # fmt: skip
    return [quote(each, safe="") for each in plain] + raw


def test_no_name_leads_out(shown: Served, outside: Path) -> None:
    for name in escapes(outside):
        api = [f"/api/{question}?file={name}&path=" for question in ("meta", "data", "attr", "paths")]
        for target in (*api, f"/view?file={name}"):
            status, _, content = shown.ask(target)
            assert status in (400, 404), (target, status)
            assert SECRET not in content and b"values" not in content, target
    assert shown.api("meta", "sly.h5")[0] == 200


@pytest.mark.parametrize(
    "target",
    [
        "/../secret.h5", "/%2e%2e/secret.h5", "/static/../server.py", "/static/..%2fserver.py",
        "/static/%2e%2e/server.py", "/static/%252e%252e%252fserver.py", "/static//etc/passwd",
        "/static/..%5cserver.py", "/static/h5web.js%00", "//etc/passwd", "/sly.h5", "/docs", "/openapi.json",
    ],
)  # fmt: skip
def test_no_address_leads_out(shown: Served, target: str) -> None:
    status, _, content = shown.ask(target)
    assert status == 404
    assert b"root:" not in content and b"def " not in content


@pytest.mark.parametrize("name", ["external", "soft", "raw", "virtual", "soft/values", "external/values"])
def test_no_link_in_a_file_leads_out(shown: Served, name: str) -> None:
    for question in ("data", "stats", "paths"):
        status, content = shown.api(question, "sly.h5", f"/{name}")
        assert status == 422, (question, content)
        assert SECRET not in content
    status, content = shown.api("meta", "sly.h5", f"/{name}")
    assert SECRET not in content
    whole = json.loads(shown.api("meta", "sly.h5")[1])
    assert {each["name"] for each in whole["children"]} >= {"external", "soft", "raw", "virtual", "own"}


def test_damaged_foreign_and_huge_are_told_and_the_server_lives(shown: Served) -> None:
    for name in ("damaged.h5", "foreign.h5"):
        status, content = shown.api("meta", name)
        assert status == 422 and name in json.loads(content)["message"]
        assert str(shown.folder).encode() not in content
    status, content = shown.api("data", "sly.h5", "/huge")
    assert status == 422 and "choose a slice" in json.loads(content)["message"]
    assert json.loads(shown.api("data", "sly.h5", "/huge", "&selection=0:3")[1]) == [0, 0, 0]
    for more in ("&selection=9:nine", "&selection=,,,,", "&format=exe", "&dtype=object"):
        assert shown.api("data", "sly.h5", "/own", more)[0] == 422
    assert shown.api("data", "sly.h5", "/none")[0] == 422
    assert shown.api("meta", "scan/a b.h5")[0] == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "169.254.1.1", "[::1]", "localhost.x"]
)
def test_a_foreign_host_name_is_refused(shown: Served, host: str) -> None:
    """A page of the web whose name resolves to this machine must not read files."""
    status, _, content = shown.ask("/", host=host)
    assert status == 400 and b"sly" not in content
    assert shown.ask("/", host=f"localhost:{shown.port}")[0] == 200


def test_it_listens_on_this_machine_alone(shown: Served) -> None:
    listening = {
        each.laddr.ip
        for each in psutil.net_connections("tcp")
        if each.status == psutil.CONN_LISTEN and each.laddr.port == shown.port
    }
    assert listening == {"127.0.0.1"}


def test_one_file_alone(tmp_path: Path) -> None:
    write_sample(tmp_path / "one.h5", "scene")
    write_sample(tmp_path / "other.h5", "scene")
    for port in serve(tmp_path / "one.h5"):
        served = Served(tmp_path, port)
        assert b"other" not in served.ask("/")[2]
        assert served.api("meta", "one.h5")[0] == 200
        assert served.api("meta", "other.h5")[0] == 404
        with h5py.File(tmp_path / "one.h5", "a") as file:  # shown, not held
            file.attrs["later"] = 1


def test_a_link_put_in_place_of_a_file_or_folder_later(tmp_path: Path, outside: Path) -> None:
    (tmp_path / "in").mkdir()
    write_sample(tmp_path / "in" / "a.h5", "scene")
    scope = Scope.of(tmp_path)
    assert scope.file("in/a.h5") == tmp_path.resolve() / "in" / "a.h5"
    (tmp_path / "in" / "a.h5").unlink()
    os.symlink(outside / "secret.h5", tmp_path / "in" / "a.h5")
    with pytest.raises(Refused, match="File not found"):
        scope.file("in/a.h5")
    assert list(scope.files()) == []
    shutil.rmtree(tmp_path / "in")
    os.symlink(outside, tmp_path / "in")
    with pytest.raises(Refused, match="File not found"):
        scope.file("in/secret.h5")


def test_what_is_no_file_or_folder_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Refused, match="neither a file nor a folder"):
        Scope.of(tmp_path / "pipe")
    with pytest.raises(FileNotFoundError):
        Scope.of(tmp_path / "nothing")


@pytest.mark.slow
@needs_browser
def test_h5web_shows_a_file_and_asks_nobody_else(shown: Served, tmp_path: Path) -> None:
    from playwright.sync_api import sync_playwright

    address, asked, errors = f"http://127.0.0.1:{shown.port}", [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 800})
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
        page.goto(address)
        page.get_by_role("link", name="sly.h5").click()
        page.get_by_role("treeitem", name="own").click()
        page.get_by_role("tab", name="Matrix").click()
        page.get_by_text("5.000").or_(page.get_by_text("5", exact=True)).first.wait_for(timeout=20_000)
        page.screenshot(path=os.environ.get("SCREENSHOT", str(tmp_path / "h5web.png")))
        browser.close()
    assert asked and all(url.startswith((address, "data:", "blob:")) for url in asked)
    assert errors == []
