import hashlib
import os
import pickle
import time

import pytest

from storage.photographs import scanning
from storage.photographs.scanning import (
    NoFolder,
    PhotographChanged,
    PhotoSource,
    UnknownPhotograph,
    scan,
    survey,
)
from storage.photographs.tables import load_scan


def photo(text: str) -> bytes:
    """What begins as a JPEG does."""
    return b"\xff\xd8\xff" + text.encode()


def sha(text: str) -> str:
    return hashlib.sha256(photo(text)).hexdigest()


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "photos"
    for name in [
        "b.jpg",
        "sub/a.JPEG",
        "sub/deep/ä ö\nx.png",
        "note.txt",
        ".hidden.jpg",
        ".git/c.jpg",
        "raw.CR2",
        "film.mp4",
    ]:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photo(name) if name.lower().endswith(("jpg", "jpeg", "png")) else name.encode())
    (root / "empty.jpg").touch()
    age(root)
    return root


def age(root) -> None:
    """Old enough for the scan to believe the files' mtimes."""
    for folder, _, names in os.walk(root):
        for name in names:
            os.utime(os.path.join(folder, name), (1e9, 1e9), follow_symlinks=False)


@pytest.fixture
def table(tmp_path):
    return tmp_path / "scans" / "photos.json"


@pytest.fixture
def reads(monkeypatch):
    """Names of the files that the scan hashes."""
    names = []
    original = scanning.file_sha256
    monkeypatch.setattr(scanning, "file_sha256", lambda path: names.append(path.name) or original(path))
    return names


def test_by_hand(root, table):
    found = scan(root, table)
    assert found.names == ["b.jpg", "empty.jpg", "film.mp4", "raw.CR2", "sub/a.JPEG", "sub/deep/ä ö\nx.png"]
    assert found.status == ["ok", "rejected", "unsupported", "unsupported", "ok", "ok"]
    assert found.sha256 == [sha("b.jpg"), "", "", "", sha("sub/a.JPEG"), sha("sub/deep/ä ö\nx.png")]
    assert [e.size for e in found.entries[:2]] == [8, 0] and "empty" in found.reason[1]
    assert "docs/video.md" in found.reason[2] and "convert" in found.reason[3]
    assert dict(found.left_out) == {"hidden": 2, ".txt": 1}
    assert found.entries[0].inode == (root / "b.jpg").stat().st_ino
    assert load_scan(table) == found


def test_files_without_an_ending_are_photographs_by_content(root, table):
    before = scan(root, table).names
    cid = "0123456789abcdef"
    for name in (f"ef/cd/ab/{cid}", f"ims/ef/cd/ab/{cid}", f"ef/cd/aa/{cid}", "LICENSE", "AA/AA/AA/AAAA"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(photo(name) if name.endswith(cid) else name.encode())
    assert set(scan(root, table).names) - set(before) == {
        f"ef/cd/ab/{cid}",
        f"ims/ef/cd/ab/{cid}",
        f"ef/cd/aa/{cid}",
    }


def test_second_scan_reads_nothing(root, table, reads):
    first = scan(root, table)
    assert len(reads) == 3
    reads.clear()
    assert scan(root, table) == first
    assert reads == []


def test_only_touched_and_new_files_are_read_again(root, table, reads):
    scan(root, table)
    reads.clear()
    (root / "b.jpg").write_bytes(photo("other"))
    (root / "aa.jpg").write_bytes(photo("new"))
    (root / "empty.jpg").unlink()
    found = scan(root, table)
    assert sorted(reads) == ["aa.jpg", "b.jpg"]
    assert dict(zip(found.names, found.sha256, strict=True))["b.jpg"] == sha("other")
    assert "empty.jpg" not in found.names


def test_file_written_during_the_scan_is_read_again_next_time(root, table, reads):
    (root / "b.jpg").write_bytes(photo("just now"))
    scan(root, table)
    reads.clear()
    time.sleep(0.05)
    scan(root, table)
    assert reads == ["b.jpg"]
    reads.clear()
    scan(root, table)
    assert reads == []


@pytest.mark.parametrize("rubbish", ["", "{", "[]", '{"entries": [{"x": 1}]}'])
def test_damaged_table_is_no_obstacle(root, table, rubbish):
    first = scan(root, table)
    table.write_text(rubbish)
    assert load_scan(table) is None
    assert scan(root, table) == first


def test_moved_folder_has_the_same_content(root, table, tmp_path, reads):
    first = scan(root, table)
    reads.clear()
    os.rename(root, tmp_path / "moved")
    moved = scan(tmp_path / "moved", table)
    assert moved.content_sha256 == first.content_sha256
    assert reads == []
    (tmp_path / "moved" / "b.jpg").write_bytes(photo("other"))
    assert scan(tmp_path / "moved", table).content_sha256 != first.content_sha256


def test_links(root, table, tmp_path):
    (root / "sub" / "loop").symlink_to(root)
    (root / "self").symlink_to(root / "self")
    (root / "linked.jpg").symlink_to(root / "b.jpg")
    (root / "gone.jpg").symlink_to(root / "nowhere.jpg")
    (root / "twisted.jpg").symlink_to(root / "twisted.jpg")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "z.jpg").write_bytes(photo("z"))
    (tmp_path / "other" / "back").symlink_to(root)
    (root / "aaa").symlink_to(tmp_path / "other")
    found = scan(root, table)
    verdicts = dict(zip(found.names, found.status, strict=True))
    assert verdicts["aaa/z.jpg"] == verdicts["linked.jpg"] == verdicts["b.jpg"] == "ok"
    assert verdicts["gone.jpg"] == verdicts["twisted.jpg"] == "rejected"
    assert "cannot be opened" in found.reason[found.names.index("gone.jpg")]
    assert len(found.names) == 6 + 4


def test_name_that_is_not_utf8(root, table):
    with open(os.fsencode(root) + b"/bad\xff.jpg", "wb") as file:
        file.write(photo("x"))
    found = scan(root, table)
    entry = next(e for e in found.entries if e.name.startswith("bad"))
    assert (entry.name, entry.status) == ("bad\\xff.jpg", "rejected")
    assert "UTF-8" in entry.reason
    assert scan(root, table) == found


def test_fifo_and_folder_named_like_photographs(root, table):
    os.mkfifo(root / "pipe.jpg")
    (root / "folder.jpg").mkdir()
    (root / "folder.jpg" / "x.jpg").write_bytes(photo("x"))
    found = scan(root, table)
    verdicts = dict(zip(found.names, zip(found.status, found.reason, strict=True), strict=True))
    assert verdicts["pipe.jpg"] == ("rejected", "not a regular file")
    assert verdicts["folder.jpg/x.jpg"] == ("ok", "")


def test_unreadable_file_is_rejected(root, table, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(scanning, "file_sha256", refuse)
    found = scan(root, table)
    assert found.reason[0] == "cannot be read: Permission denied"
    assert found.status[0] == "rejected"


def test_no_folder(tmp_path, table):
    with pytest.raises(NoFolder, match="nowhere"):
        scan(tmp_path / "nowhere", table)


def test_progress(root, table):
    calls = []
    scan(root, table, progress=lambda done, all_: calls.append((done, all_)))
    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_source_opens_what_was_scanned(root, table, reads):
    source = pickle.loads(pickle.dumps(PhotoSource(root, scan(root, table))))
    reads.clear()
    assert source.path("sub/a.JPEG").read_bytes() == photo("sub/a.JPEG")
    assert reads == []
    os.utime(root / "b.jpg")  # touched, the same content
    assert source.path("b.jpg") == root / "b.jpg"
    assert source.path("b.jpg") == root / "b.jpg"
    assert reads == ["b.jpg"]
    with pytest.raises(UnknownPhotograph, match=r"'z\.jpg'"):
        source.path("z.jpg")


def test_source_refuses_what_changed(root, table):
    source = PhotoSource(root, scan(root, table))
    (root / "b.jpg").write_bytes(photo("B.jpg"))
    with pytest.raises(PhotographChanged, match=r"'b\.jpg' is no longer"):
        source.path("b.jpg")
    (root / "b.jpg").unlink()
    with pytest.raises(PhotographChanged, match=r"'b\.jpg' cannot be read any more"):
        source.path("b.jpg")


def test_source_from_digests_reads_once(root, reads):
    source = PhotoSource.from_digests(root, {"b.jpg": sha("b.jpg"), "sub/a.JPEG": sha("something else")})
    assert source.path("b.jpg") == source.path("b.jpg")
    assert reads == ["b.jpg"]
    with pytest.raises(PhotographChanged):
        source.path("sub/a.JPEG")


def test_a_survey_finds_what_a_scan_finds_and_keeps_nothing(root, table, reads):
    found, unread = survey(root, table, 10**9)
    assert unread == 0 and not table.exists()
    assert found == scan(root, table)
    reads.clear()
    assert survey(root, table, 0) == (found, 0)
    assert reads == []


def test_a_survey_reads_new_files_only_up_to_a_size(root, table, reads):
    scan(root, table)
    (root / "new.jpg").write_bytes(photo("12345"))
    age(root)
    kept = table.read_bytes()
    reads.clear()
    found, unread = survey(root, table, 7)
    assert (reads, unread) == ([], 1)
    digests = {entry.name: entry.sha256 for entry in found.entries}
    assert digests["new.jpg"] == "" and digests["b.jpg"] == sha("b.jpg")
    found, unread = survey(root, table, 8)
    assert (len(reads), unread) == (1, 0)
    assert {entry.name: entry.sha256 for entry in found.entries}["new.jpg"] == sha("12345")
    assert survey(root, None, 4)[1] == len([e for e in found.entries if e.status == "ok"])
    assert table.read_bytes() == kept


def test_a_survey_of_no_folder(tmp_path, table):
    with pytest.raises(NoFolder, match="is not a folder"):
        survey(tmp_path / "none", table, 0)


def test_named_files_keep_their_order_and_are_read_once(tmp_path, monkeypatch):
    root = tmp_path / "root"
    (root / "d").mkdir(parents=True)
    for name in ("b.jpg", "d/ä.jpg"):
        (root / name).write_text(name)
        os.utime(root / name, (1, 1))
    names = ["d/ä.jpg", "b.jpg", "gone.jpg"]
    table = scanning.scan_names(root, names, tmp_path / "t.json")
    assert table.names == names
    assert table.sha256[0] == hashlib.sha256("d/ä.jpg".encode()).hexdigest()
    assert table.status == ["ok", "ok", "rejected"] and "No such file" in table.entries[2].reason
    monkeypatch.setattr(scanning, "file_sha256", lambda path: pytest.fail(f"{path} is read again"))
    assert scanning.scan_names(root, names, tmp_path / "t.json") == table
