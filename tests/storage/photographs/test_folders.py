"""Which files of a folder are looked at, and how the rest is counted."""

import json
import os
from pathlib import Path

import pytest

from storage.photographs import scanning
from storage.photographs.folders import ending, left_out_text
from storage.photographs.scanning import NoFolder, NoPhotographs, check_folder, require_photographs, scan
from storage.photographs.tables import load_scan
from storage.store.store import Store

PHOTO = b"\xff\xd8\xff\xe0 begins as a JPEG does: "


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    write(folder, "a.jpg", "b/c.JPG")
    return folder


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return tmp_path / "table.json"


def write(folder: Path, *names: str, content: bytes = PHOTO) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content + name.encode())
        os.utime(path, (1e9, 1e9))


def test_a_photograph_is_one_whatever_its_name_ends_in(root: Path, table: Path) -> None:
    write(root, "DSCF0001.MPO", "DSC00001.HIF", "noending", "IMG.JPEG_large", "deep/ef/cd/x")
    found = scan(root, table)
    assert set(found.names) == {
        "a.jpg", "b/c.JPG", "DSCF0001.MPO", "DSC00001.HIF", "noending", "IMG.JPEG_large", "deep/ef/cd/x",
    }  # fmt: skip
    assert set(found.status) == {"ok"} and found.left_out == {}


def test_system_and_hidden_folders_are_never_photographs(root: Path, table: Path) -> None:
    before = scan(root, table)
    write(
        root,
        *(
            f"{name}/x.jpg"
            for name in ("@eaDir/a.jpg", "#recycle", "$RECYCLE.BIN", "System Volume Information")
        ),
        *(f"b/{name}/x.jpg" for name in ("@eaDir", "__MACOSX", "lost+found", "@Recycle", "Previews.lrdata")),
        *(f"{name}/x.jpg" for name in (".thumbnails", ".Trash-1000", ".git", "b/.@__thumb")),
        *("._a.jpg", "b/._c.JPG", "Thumbs.db", "b/thumbs.db", "desktop.ini"),
    )
    found = scan(root, table)
    assert found.names == before.names and found.content_sha256 == before.content_sha256
    assert found.left_out == {"hidden": 6, "system": 12}
    assert left_out_text(found.left_out) == "6 hidden, 12 of the system"


def test_a_folder_of_photographs_may_have_any_other_name(root: Path, table: Path) -> None:
    write(root, "@home/x.jpg", "#1 trip/x.jpg", "$/x.jpg", "thumbnails/x.jpg", "recycled art/x.jpg")
    assert len(scan(root, table).names) == 7


def test_a_store_is_never_scanned(root: Path, table: Path, tmp_path: Path) -> None:
    before = scan(root, table).content_sha256
    inside = Store.create(root / "b" / "store", min_free_bytes=0)
    write(inside.root, "working/ab-cd/x.jpg")
    outside = Store.create(tmp_path / "elsewhere", min_free_bytes=0)
    write(outside.root, "working/ab-cd/y.jpg")
    (root / "link to it").symlink_to(outside.root)
    (root / "link into it").symlink_to(outside.root / "working")
    (root / "picture.jpg").symlink_to(outside.root / "working" / "ab-cd" / "y.jpg")
    found = scan(root, table)
    assert found.content_sha256 == before
    assert found.left_out == {"store": 4}
    assert "4 stores" in left_out_text(found.left_out)


def test_a_store_beside_or_around_the_photographs_is_no_obstacle(table: Path, tmp_path: Path) -> None:
    store = Store.create(tmp_path / "store", min_free_bytes=0)
    write(store.root / "photos", "a.jpg")
    (store.root / "photos" / "again.jpg").symlink_to(store.root / "photos" / "a.jpg")
    assert scan(store.root / "photos", table).status == ["ok", "ok"]


@pytest.mark.parametrize(
    "content", ['{"format": "shop", "created": 1}', "[1]", "{", "[" * 3000, '{"a": "' + "x" * 10000 + '"}']
)
def test_somebody_elses_store_json_is_a_file_like_others(root: Path, table: Path, content: str) -> None:
    (root / "store.json").write_text(content)
    found = scan(root, table)
    assert len(found.names) == 2 and found.left_out == {".json": 1}


def test_the_folder_itself_a_store(table: Path, tmp_path: Path) -> None:
    store = Store.create(tmp_path / "store", min_free_bytes=0)
    write(store.root, "working/x.jpg")
    with pytest.raises(NoPhotographs, match=r"0 photographs in '.*store': 1 store of this program"):
        check_folder(store.root)


def test_what_is_left_out_is_counted_by_ending(root: Path, table: Path) -> None:
    write(root, *(f"{n}.txt" for n in range(12)), "x.PDF", "y.pdf", "z/w.pdf", "README", content=b"text")
    write(root, "odd.\x1b[31mred", "long.endingthatneverends", "new.li\nne", content=b"text")
    found = scan(root, table)
    assert found.left_out == {".txt": 12, ".pdf": 3, "without ending": 1, "with another ending": 3}
    assert left_out_text(found.left_out) == "12 .txt, 3 .pdf, 1 without ending, 3 with other endings"


def test_many_endings_are_shown_in_part() -> None:
    counts = {f".e{n:02}": 30 - n for n in range(20)} | {"unreadable folder": 1}
    assert left_out_text(counts).startswith("30 .e00, 29 .e01")
    assert left_out_text(counts).endswith("23 .e07, 198 with other endings, 1 unreadable folder")
    assert left_out_text({}) == ""
    assert [ending(name) for name in ("a/b.TAR.GZ", "a.b/c", "x.", ".y")] == [
        ".gz", "without ending", "without ending", "without ending",
    ]  # fmt: skip


def test_no_result_depends_on_what_is_left_out(root: Path, table: Path) -> None:
    before = scan(root, table)
    write(root, "notes.txt", content=b"text")
    after = scan(root, table)
    assert after.content_sha256 == before.content_sha256 and after.left_out != before.left_out


def test_no_file_is_looked_into_twice(root: Path, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(root, "notes.txt", "film.mp4", content=b"text")
    first = scan(root, table)
    looks: list[str] = []
    original = scanning._head
    monkeypatch.setattr(scanning, "_head", lambda path: looks.append(path.name) or original(path))
    assert scan(root, table) == first and looks == []
    write(root, "notes.txt", content=PHOTO)  # another size
    assert "notes.txt" in scan(root, table).names and looks == ["notes.txt"]


def test_other_rules_look_again_but_digest_nothing_again(
    root: Path, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(root, "notes.txt", content=b"text")
    first = scan(root, table)
    table.write_text(json.dumps(json.loads(table.read_text()) | {"rules": -1}))
    looks: list[str] = []
    original = scanning._head
    monkeypatch.setattr(scanning, "_head", lambda path: looks.append(path.name) or original(path))
    monkeypatch.setattr(scanning, "file_sha256", lambda path: pytest.fail(f"{path} is digested again"))
    assert scan(root, table) == first and sorted(looks) == ["a.jpg", "c.JPG", "notes.txt"]


def test_a_table_of_before_there_were_counts_still_saves_the_digests(
    root: Path, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = scan(root, table)
    kept = json.loads(table.read_text())
    table.write_text(json.dumps({"entries": kept["entries"], "skipped": {"hidden": 0, "other": 3}}))
    assert load_scan(table) == first
    monkeypatch.setattr(scanning, "file_sha256", lambda path: pytest.fail(f"{path} is digested again"))
    assert scan(root, table) == first


def test_no_photograph_at_all_says_what_is_there(tmp_path: Path, table: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    with pytest.raises(NoPhotographs, match=r"0 photographs in '.*empty': it is empty; give the folder"):
        check_folder(folder)
    write(folder, *(f"{n}.txt" for n in range(12)), "1.jpg", "2.jpg", content=b"text")
    write(folder, "film.mp4", content=b"")
    expected = (
        r"0 photographs in .*: 2 rejected \(2 x not an image.* text\), 1 unsupported \(video.*\), 12 \.txt"
    )
    with pytest.raises(NoPhotographs, match=expected):
        check_folder(folder)
    with pytest.raises(NoPhotographs, match=expected):
        require_photographs(scan(folder, table), folder)
    write(folder, "z.jpg")
    check_folder(folder)
    with pytest.raises(NoFolder, match="is not a folder"):
        check_folder(tmp_path / "nowhere")


def test_odd_files_that_are_not_called_photographs_are_only_counted(root: Path, table: Path) -> None:
    os.mkfifo(root / "pipe")
    (root / "gone.txt").symlink_to(root / "nowhere")
    (root / "twisted").symlink_to(root / "twisted")
    found = scan(root, table)
    assert len(found.names) == 2 and found.left_out == {"without ending": 2, ".txt": 1}


def test_two_names_that_are_shown_alike_stay_two(root: Path, table: Path) -> None:
    write(root, "bad\\xff.jpg", "bad\\xff.jpg (2)")
    with open(os.fsencode(root) + b"/bad\xff.jpg", "wb") as file:
        file.write(PHOTO)
    found = scan(root, table)
    assert len(set(found.names)) == len(found.names) == 5
    assert {
        name: status for name, status in zip(found.names, found.status, strict=True) if "bad" in name
    } == {
        "bad\\xff.jpg": "ok",
        "bad\\xff.jpg (2)": "ok",
        "bad\\xff.jpg (3)": "rejected",
    }
    assert scan(root, table) == found
