"""An exported folder is whole or absent, and never replaces anything."""

from pathlib import Path

import pytest

from storage.files.exports import UnusableFolder, new_folder


def fill(target: Path) -> None:
    with new_folder(target) as folder:
        (folder / "a").write_text("1")
        assert not (target / "a").exists()


@pytest.mark.parametrize("there", [False, True])
def test_a_new_or_empty_folder_is_filled(tmp_path: Path, there: bool) -> None:
    target = tmp_path / "deep er" / "out"
    if there:
        target.mkdir(parents=True)
    fill(target)
    assert [path.name for path in target.iterdir()] == ["a"]
    assert list(target.parent.iterdir()) == [target]


def test_a_relative_folder_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fill(Path("out"))
    assert (tmp_path / "out" / "a").read_text() == "1"


def test_what_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("out", "file", "link"):
        with pytest.raises(
            UnusableFolder, match=f"{name}' is there already; give a folder that is new or empty"
        ):
            fill(tmp_path / name)
    assert {path.name for path in tmp_path.iterdir()} == {"out", "file", "link"}
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_what_comes_in_between_stays(tmp_path: Path) -> None:
    def interfere() -> None:
        with new_folder(tmp_path / "out"):
            (tmp_path / "out").mkdir()
            (tmp_path / "out" / "mine").write_text("mine")

    with pytest.raises(UnusableFolder, match="is there already"):
        interfere()
    assert (tmp_path / "out" / "mine").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with new_folder(tmp_path / "out") as folder:
            (folder / "a").write_text("1")
            raise RuntimeError("no luck")

    with pytest.raises(RuntimeError, match="no luck"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UnusableFolder, match="cannot be made"):
        fill(tmp_path / "file" / "out")
