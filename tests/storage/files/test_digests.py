import hashlib
import os
import struct
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from storage.files.digests import (
    UnreadableContent,
    canonical_json,
    file_sha256,
    members_sha256,
    relative_files,
)
from storage.hdf5 import digests as hdf5_digests
from storage.hdf5.digests import cached_content_sha256, content_sha256, group_sha256


def write(path: Path, arrays: dict, *, reverse: bool = False, attributes: dict | None = None, **how) -> Path:
    with h5py.File(path, "w") as file:
        for name in sorted(arrays, reverse=reverse):
            kwargs = how if np.ndim(arrays[name]) else {}
            dataset = file.create_dataset(name, data=arrays[name], **kwargs)
            dataset.attrs.update(attributes or {})
        file.attrs.update(attributes or {})
    return path


ARRAYS = {
    "a/x": np.arange(12, dtype=np.float32).reshape(4, 3),
    "a/b/y": np.arange(5),
    "z": np.array([True, False]),
    "text": np.array(["é", "", "long text"], dtype=h5py.string_dtype()),
    "sha": np.array([b"ab", b"cd"], dtype="S64"),
    "scalar": np.float64(2.5),
    "empty": np.zeros((0, 3)),
}


def test_by_hand():
    """One dataset, spelled out byte by byte."""
    expected = hashlib.sha256(b'hdf5\n["a/n","<i8",[2]]\n' + struct.pack("<qq", 1, -1)).hexdigest()
    with h5py.File("memory", "w", driver="core", backing_store=False) as file:
        file["a/n"] = np.array([1, -1])
        assert group_sha256(file) == expected
        assert group_sha256(file, "a") != expected
        del file["a"]
        file["a/n"] = np.array([1, -1], dtype=">i8")  # big-endian on disk, the same numbers
        assert (
            group_sha256(file)
            == hashlib.sha256(b'hdf5\n["a/n","<i8",[2]]\n' + struct.pack("<qq", 1, -1)).hexdigest()
        )


def test_text_is_utf8_with_lengths():
    expected = hashlib.sha256(
        b'hdf5\n["t","text",[2]]\n' + struct.pack("<Q", 2) + "é".encode() + struct.pack("<Q", 0)
    ).hexdigest()
    with h5py.File("memory", "w", driver="core", backing_store=False) as file:
        file.create_dataset("t", data=["é", ""], dtype=h5py.string_dtype())
        assert group_sha256(file) == expected


def test_storage_does_not_count(tmp_path):
    plain = content_sha256(write(tmp_path / "plain.h5", ARRAYS))
    reordered = write(
        tmp_path / "reordered.h5", ARRAYS, reverse=True, attributes={"stage": "x", "seconds": 3.0}
    )
    assert content_sha256(reordered) == plain
    for index, how in enumerate(
        [{"compression": "gzip"}, {"compression": "lzf", "shuffle": True}, {"chunks": True}]
    ):
        arrays = {name: value for name, value in ARRAYS.items() if name != "empty"}
        path = write(tmp_path / f"{index}.h5", arrays, **how)
        assert content_sha256(path) == content_sha256(write(tmp_path / f"{index}-plain.h5", arrays))
    assert file_sha256(tmp_path / "plain.h5") != file_sha256(reordered)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("a/x", ARRAYS["a/x"] + 1e-6),
        ("a/x", ARRAYS["a/x"].astype(np.float64)),
        ("a/x", ARRAYS["a/x"].reshape(3, 4)),
        ("z", np.array([1, 0], dtype=np.int8)),
        ("text", np.array(["é", "long text", ""], dtype=h5py.string_dtype())),
        ("scalar", np.array([2.5])),
        ("new", np.zeros(1)),
    ],
)
def test_meaning_counts(tmp_path, name, value):
    changed = write(tmp_path / "changed.h5", {**ARRAYS, name: value})
    assert content_sha256(changed) != content_sha256(write(tmp_path / "plain.h5", ARRAYS))


def test_names_count(tmp_path):
    one = write(tmp_path / "1.h5", {"a": np.zeros(2), "b": np.ones(2)})
    two = write(tmp_path / "2.h5", {"a": np.ones(2), "b": np.zeros(2)})
    assert content_sha256(one) != content_sha256(two)


def test_blocks_do_not_count(tmp_path, monkeypatch):
    arrays = {
        "x": np.arange(1000).reshape(100, 10),
        "t": np.array(["a", "bc"] * 50, dtype=h5py.string_dtype()),
    }
    record = np.zeros(40, dtype=[("name", h5py.string_dtype()), ("n", "<i4")])
    record["name"], record["n"] = "x", np.arange(40)
    path = write(tmp_path / "f.h5", {**arrays, "record": record}, chunks=True)
    whole = content_sha256(path)
    monkeypatch.setattr(hdf5_digests, "BLOCK_BYTES", 64)
    assert content_sha256(path) == whole


def test_padding_in_records_does_not_count():
    aligned = np.zeros(3, dtype=np.dtype([("a", "i1"), ("b", "f8")], align=True))
    packed = np.zeros(3, dtype=[("a", "i1"), ("b", "f8")])
    for table in (aligned, packed):
        table["a"], table["b"] = [1, 2, 3], [0.5, 1.5, 2.5]
    found = set()
    for table in (aligned, packed):
        with h5py.File("memory", "w", driver="core", backing_store=False) as file:
            file["t"] = table
            found.add(group_sha256(file))
    assert len(found) == 1


def test_ragged_and_enum():
    found = []
    for last in (4, 5):
        with h5py.File("memory", "w", driver="core", backing_store=False) as file:
            ragged = file.create_dataset("r", (2,), dtype=h5py.vlen_dtype(np.int32))
            ragged[0], ragged[1] = [1, 2], [3, last]
            file.create_dataset("e", data=[0, 1], dtype=h5py.enum_dtype({"A": 0, "B": 1}, basetype="i1"))
            found.append(group_sha256(file))
    assert found[0] != found[1]


def test_references_are_refused():
    with h5py.File("memory", "w", driver="core", backing_store=False) as file:
        file["x"] = np.zeros(1)
        file.create_dataset("r", data=[file["x"].ref], dtype=h5py.ref_dtype)
        with pytest.raises(UnreadableContent, match="reference"):
            group_sha256(file)


def test_group_digest_does_not_depend_on_where_the_group_is(tmp_path):
    with h5py.File(tmp_path / "f.h5", "w") as file:
        for place in ("one", "deep/two"):
            file[f"{place}/keypoints"] = np.arange(6.0).reshape(3, 2)
        file["other/keypoints"] = np.arange(6.0).reshape(3, 2) + 1
        one = group_sha256(file["one"])
    assert group_sha256(tmp_path / "f.h5", "deep/two") == one
    assert group_sha256(tmp_path / "f.h5", "other") != one
    with pytest.raises(UnreadableContent, match="nowhere"):
        group_sha256(tmp_path / "f.h5", "nowhere")


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(
        st.text("abc/", min_size=1, max_size=4).filter(lambda n: n.strip("/") == n and "//" not in n),
        hnp.arrays(
            st.sampled_from([np.float32, np.int64, np.uint8, np.bool_, np.dtype(">f4")]),
            hnp.array_shapes(max_dims=3, max_side=5),
        ),
        max_size=4,
    )
)
def test_any_arrays_in_any_storage(arrays):
    names = sorted(arrays)
    arrays = {n: arrays[n] for n in names if not any(other.startswith(f"{n}/") for other in names)}

    def digest(reverse: bool, change: bool = False, **how) -> str:
        with h5py.File("memory", "w", driver="core", backing_store=False) as file:
            for index, name in enumerate(sorted(arrays, reverse=reverse)):
                values = arrays[name].copy()
                if change and index == 0:
                    values.view(np.uint8).reshape(-1)[0] ^= 1
                file.create_dataset(name, data=values, **how)
            return group_sha256(file)

    assert digest(False) == digest(True, compression="gzip", shuffle=True)
    if arrays:
        assert digest(False, change=True) != digest(False)


def test_safetensors(tmp_path):
    torch_free = (
        "import sys; from storage.hdf5.digests import content_sha256; "
        "print(content_sha256(sys.argv[1]), 'torch' in sys.modules)"
    )
    from safetensors.numpy import save_file

    tensors = {"b": np.arange(4.0), "a": np.arange(6, dtype=np.int64).reshape(2, 3)}
    save_file(tensors, tmp_path / "1.safetensors", metadata={"made": "today"})
    save_file(dict(reversed(tensors.items())), tmp_path / "2.safetensors")
    save_file({**tensors, "b": np.arange(4.0) + 1}, tmp_path / "3.safetensors")
    save_file({**tensors, "b": np.arange(4.0).reshape(2, 2)}, tmp_path / "4.safetensors")
    one, two, three, four = (content_sha256(tmp_path / f"{n}.safetensors") for n in (1, 2, 3, 4))
    assert one == two
    assert len({one, three, four}) == 3
    root = str(Path(__file__).resolve().parents[3])
    done = subprocess.run(
        [sys.executable, "-c", torch_free, tmp_path / "1.safetensors"],
        capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": root},
    )  # fmt: skip
    assert done.stdout.split() == [one, "False"]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff" * 8 + b"{}",
        struct.pack("<Q", 4) + b"nope",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 8) + b'{"a":{}}',
    ],
)
def test_broken_safetensors(tmp_path, raw):
    (tmp_path / "n.safetensors").write_bytes(raw)
    with pytest.raises(UnreadableContent, match="safetensors"):
        content_sha256(tmp_path / "n.safetensors")


def test_cut_safetensors(tmp_path):
    from safetensors.numpy import save_file

    save_file({"a": np.arange(100.0)}, tmp_path / "n.safetensors")
    raw = (tmp_path / "n.safetensors").read_bytes()
    (tmp_path / "n.safetensors").write_bytes(raw[:-8])
    with pytest.raises(UnreadableContent, match="'a' ends early"):
        content_sha256(tmp_path / "n.safetensors")


def test_broken_hdf5(tmp_path):
    write(tmp_path / "x.h5", ARRAYS)
    raw = (tmp_path / "x.h5").read_bytes()
    (tmp_path / "x.h5").write_bytes(raw[:100])
    with pytest.raises(UnreadableContent, match=r"x\.h5"):
        content_sha256(tmp_path / "x.h5")


def test_folder_by_hand(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.txt").write_text("b")
    (tmp_path / "a.txt").write_text("a")
    assert list(relative_files(tmp_path)) == ["a.txt", "sub/b.txt"]
    expected = members_sha256(
        {"sub/b.txt": file_sha256(tmp_path / "sub/b.txt"), "a.txt": file_sha256(tmp_path / "a.txt")}
    )
    assert content_sha256(tmp_path) == expected
    os.rename(tmp_path / "a.txt", tmp_path / "c.txt")
    assert content_sha256(tmp_path) != expected


def test_folder_with_links_in_circles(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b").write_text("b")
    (tmp_path / "sub" / "up").symlink_to(tmp_path)
    assert list(relative_files(tmp_path)) == ["sub/b"]
    with open(os.fsencode(tmp_path) + b"/\xff.txt", "w") as file:
        file.write("x")
    assert len(content_sha256(tmp_path)) == 64


def test_remembered_digest_notices_a_change(tmp_path):
    path = tmp_path / "x.bin"
    path.write_bytes(b"one")
    first = cached_content_sha256(path)
    assert cached_content_sha256(path) == first == content_sha256(path)
    path.write_bytes(b"two!")
    assert cached_content_sha256(path) == content_sha256(path) != first
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "y").write_text("y")
    before = cached_content_sha256(tmp_path / "folder")
    (tmp_path / "folder" / "z").write_text("z")
    assert cached_content_sha256(tmp_path / "folder") != before


def test_canonical_json():
    assert canonical_json({"b": [1, 1.5, None], "a": "é"}) == '{"a":"\\u00e9","b":[1,1.5,null]}'
