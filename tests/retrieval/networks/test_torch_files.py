"""Checkpoints of torch's, read without torch: what torch saved comes out, what is announced is checked."""

from __future__ import annotations

import io
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from retrieval.networks.files import UnreadableNetwork, read_pickled_tensors
from retrieval.networks.torch_files import BadTorchFile, read_torch_file

ZIPPED = pytest.mark.parametrize("zipped", [True, False])


def save(path: Path, content: Any, zipped: bool) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


def content() -> dict[str, Any]:
    square = torch.arange(12.0).reshape(3, 4)
    kinds = (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8)
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    return {
        "square": square,
        "turned": square.T,
        "part": square[1:, 2:],
        "shared": square[0],
        "scalar": torch.tensor(7),
        "empty": torch.empty(0, 3),
        "flags": torch.tensor([True, False]),
        "octets": torch.tensor([1, 255], dtype=torch.uint8),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "state": module.state_dict(),
        **{str(kind): torch.arange(5).to(kind) for kind in kinds},
        "plain": {"list": [1, 2.5, None, True, "ü"], "tuple": (1, (2,)), "size": torch.Size([1, 2])},
        "array": np.arange(6.0).reshape(2, 3),
        "number": np.float64(2.5),
        "ordered": OrderedDict([("b", 1), ("a", 2)]),
    }


def same(found: Any, wanted: Any) -> None:
    if isinstance(wanted, torch.Tensor):
        assert found.dtype == wanted.dtype
        torch.testing.assert_close(found, wanted.detach(), rtol=0, atol=0)
    elif isinstance(wanted, np.ndarray):
        np.testing.assert_array_equal(found, wanted)
    elif isinstance(wanted, dict):
        assert list(found) == list(wanted)
        for name in wanted:
            same(found[name], wanted[name])
    else:
        assert found == wanted


@ZIPPED
def test_what_torch_saved_comes_out(tmp_path: Path, zipped: bool) -> None:
    wanted = content()
    same(read_pickled_tensors(save(tmp_path / "a.pth", wanted, zipped)), wanted)


@ZIPPED
def test_a_tensor_can_be_written_to(tmp_path: Path, zipped: bool) -> None:
    found = read_pickled_tensors(save(tmp_path / "a.pth", {"a": torch.zeros(2)}, zipped))
    found["a"] += 1
    assert found["a"].tolist() == [1, 1]


def repacked(path: Path, compression: int = zipfile.ZIP_STORED, **members: bytes) -> Path:
    """The same archive with other members, by the last part of their names."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, octets in parts.items():
            archive.writestr(name, members.get(name.rsplit("/", 1)[-1].replace(".", "_"), octets))
    return path


def test_a_deflated_checkpoint_is_refused_by_what_it_announces(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", {"a": torch.zeros(100_000_000, dtype=torch.uint8)}, True)
    repacked(path, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1_000_000
    with pytest.raises(UnreadableNetwork, match=r"a\.pth.*announced with 1000\d+ bytes"):
        read_pickled_tensors(path)


def test_a_small_deflated_checkpoint_is_read(tmp_path: Path) -> None:
    path = repacked(save(tmp_path / "a.pth", {"a": torch.arange(1000)}, True), zipfile.ZIP_DEFLATED)
    assert read_pickled_tensors(path)["a"].sum() == 499_500


def test_members_of_other_sizes_than_their_tensors_are_refused(tmp_path: Path) -> None:
    for octets in (b"", b"1234", b"x" * 100):
        path = repacked(save(tmp_path / "a.pth", {"a": torch.zeros(3)}, True), **{"0": octets})
        with pytest.raises(UnreadableNetwork, match=r"a\.pth.*is announced with 12 bytes, the file has"):
            read_pickled_tensors(path)


def test_the_other_byte_order_is_refused(tmp_path: Path) -> None:
    path = repacked(save(tmp_path / "a.pth", {"a": torch.zeros(3)}, True), byteorder=b"big")
    with pytest.raises(UnreadableNetwork, match="byte order"):
        read_pickled_tensors(path)


@ZIPPED
def test_a_view_beyond_its_storage_is_refused(tmp_path: Path, zipped: bool) -> None:
    path = save(tmp_path / "a.pth", {"a": torch.zeros(77, 3)}, zipped)
    written = path.read_bytes()
    for change in (b"K\xffK\x03\x86", b"K\x4dK\xff\x86"):
        (tmp_path / "b.pth").write_bytes(written.replace(b"K\x4dK\x03\x86", change))
        with pytest.raises(UnreadableNetwork, match=r"b\.pth"):
            read_pickled_tensors(tmp_path / "b.pth")


def test_an_expanded_tensor_announces_more_than_is_stored(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", {"a": torch.zeros(1).expand(1_000_000, 1_000_000)}, True)
    with pytest.raises(UnreadableNetwork, match="a tensor of 1000000000000 values, its storage has 1"):
        read_pickled_tensors(path)


def test_arrays_are_not_built_from_their_state(tmp_path: Path) -> None:
    """The attack on ground truth, in a checkpoint: numpy would set the addresses that it is given."""
    kind = b"cnumpy\ndtype\nX\x02\x00\x00\x00V8\x85R(K\x03X\x01\x00\x00\x00|NNNK\x08K\x01K@tb"
    state = b"(K\x01K\x01\x85" + kind + b"\x89C\x08AAAAAAAAtb"
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
    evil = b"\x80\x04}X\x01\x00\x00\x00a" + array
    path = save(tmp_path / "a.pth", {}, True)
    repacked(path, data_pkl=evil + state + b"s.")
    with pytest.raises(UnreadableNetwork, match=r"a\.pth.*'V8'"):
        read_pickled_tensors(path)


def test_the_older_form_lists_what_it_stores(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", {"a": torch.arange(4)}, False)
    written = path.read_bytes()
    assert written[-40:-32] == struct.pack("<q", 4)
    for count in (-1, 5, 2**62):
        path.write_bytes(written[:-40] + struct.pack("<q", count) + written[-32:])
        with pytest.raises(BadTorchFile, match=r"a\.pth"):
            read_torch_file(path)


def test_a_zip_of_something_else_is_named(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("x.txt", "hello")
    (tmp_path / "a.pth").write_bytes(buffer.getvalue())
    with pytest.raises(UnreadableNetwork, match=r"a\.pth.*without one data\.pkl"):
        read_pickled_tensors(tmp_path / "a.pth")
