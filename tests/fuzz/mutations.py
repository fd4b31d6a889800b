"""Seeded mutations of a file: of its bytes, and of what its format is made of."""

from __future__ import annotations

import io
import pickletools
import random
import re
from collections.abc import Callable, Sequence

Mutation = Callable[[bytearray, random.Random], None]
_EDGES = (
    0,
    1,
    2,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**40,
    2**62,
    2**63,
    2**64 - 1,
)
_BLOCKS = (
    b"OHDR",
    b"OCHK",
    b"GCOL",
    b"TREE",
    b"SNOD",
    b"HEAP",
    b"FRHP",
    b"FHDB",
    b"BTHD",
    b"BTLF",
    b"FADB",
    b"EAHD",
)
_TOKENS = (
    b"nan", b"inf", b"-1", b"0", b"1e999", b"-0.0", b"99999999999999999999", b"9" * 5000, b"\x00",
    b"\xff\xfe",
    b"../x", b"=", b"\xc3\x28", b"\r", b"\t", b",", b";", b'"', b"'", b"[" * 2000, b"{a: " * 300,
    b"&a [*a, *a]",
    b"\x1b[2J", b"!!python/object/apply:os.system [x]", b"\xe2\x80\xa8", b"1_000", b"0x10",
)  # fmt: skip


def mutated(seeds: Sequence[bytes], kind: str, chance: random.Random) -> bytes:
    """One of the seeds, changed in one to six places. kind: "bytes", "hdf5", "pickle" or "text"."""
    content = bytearray(chance.choice(seeds))
    own = _OF_KIND.get(kind, ())
    for _ in range(chance.choice((1, 1, 1, 2, 3, 6))):
        if chance.random() < 0.08:
            _splice(content, chance.choice(seeds), chance)
        elif own and chance.random() < 0.6:
            chance.choice(own)(content, chance)
        elif content:
            chance.choice(_ANY)(content, chance)
    return bytes(content)


def _bits(content: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice((1, 1, 2, 8))):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)


def _edge(content: bytearray, chance: random.Random) -> None:
    """An edge of a number's range at any place, in either order of bytes."""
    _write(content, chance.randrange(len(content)), chance)


def _write(content: bytearray, at: int, chance: random.Random) -> None:
    width, value = chance.choice((1, 2, 4, 8)), chance.choice((*_EDGES, len(content), len(content) + 1))
    order = chance.choice(("little", "big"))
    content[at : at + width] = (value % 2 ** (8 * width)).to_bytes(width, order)  # type: ignore[arg-type]


def _near(content: bytearray, chance: random.Random) -> None:
    """A number that is there, a little larger or smaller: lengths and offsets."""
    at, width = chance.randrange(len(content)), chance.choice((1, 2, 4, 8))
    value = int.from_bytes(content[at : at + width], "little") + chance.choice((-8, -1, 1, 8, 256, 65536))
    content[at : at + width] = (value % 2 ** (8 * width)).to_bytes(width, "little")


def _block(content: bytearray, chance: random.Random) -> tuple[int, int]:
    begin = chance.randrange(len(content))
    return begin, min(len(content), begin + chance.choice((1, 4, 16, 64, 512, 4096)))


def _copy(content: bytearray, chance: random.Random) -> None:
    begin, end = _block(content, chance)
    at = chance.randrange(len(content))
    content[at : at + end - begin] = content[begin:end]


def _delete(content: bytearray, chance: random.Random) -> None:
    begin, end = _block(content, chance)
    del content[begin:end]


def _repeat(content: bytearray, chance: random.Random) -> None:
    begin, end = _block(content, chance)
    content[begin:begin] = content[begin:end] * chance.choice((1, 2, 20))


def _clear(content: bytearray, chance: random.Random) -> None:
    begin, end = _block(content, chance)
    content[begin:end] = bytes([chance.choice((0, 0xFF, 0x20))]) * (end - begin)


def _cut(content: bytearray, chance: random.Random) -> None:
    del content[chance.randrange(len(content)) :]


def _splice(content: bytearray, other: bytes, chance: random.Random) -> None:
    """The end of another seed behind the beginning of this one."""
    at = chance.randrange(len(content) + 1)
    content[at:] = other[chance.randrange(len(other) + 1) :]


def _hdf5_block(content: bytearray, chance: random.Random) -> None:
    """Within an object header, a heap or a tree; those with checksums are found out by them."""
    signature = chance.choice(_BLOCKS)
    places = [found.start() for found in re.finditer(signature, content)]
    if places:
        _write(content, min(len(content) - 1, chance.choice(places) + chance.randrange(4, 200)), chance)


def _hdf5_heap_reference(content: bytearray, chance: random.Random) -> None:
    """Where an address of a heap is, another length or index."""
    heaps = [found.start() for found in re.finditer(b"GCOL", content)]
    if not heaps:
        return
    address = chance.choice(heaps).to_bytes(8, "little")
    places = [found.start() for found in re.finditer(re.escape(address), content)]
    if places:
        place = chance.choice(places)
        _write(content, max(0, place + chance.choice((-4, 0, 8))), chance)


def _pickle_instruction(content: bytearray, chance: random.Random) -> None:
    places = _instructions(bytes(content))
    if places:
        content[chance.choice(places)] = ord(chance.choice(pickletools.opcodes).code)


def _pickle_argument(content: bytearray, chance: random.Random) -> None:
    places = _instructions(bytes(content))
    if places:
        _write(content, min(len(content) - 1, chance.choice(places) + 1), chance)


def _pickle_insert(content: bytearray, chance: random.Random) -> None:
    places = _instructions(bytes(content))
    if places:
        at = chance.choice(places)
        code = ord(chance.choice(pickletools.opcodes).code)
        content[at:at] = bytes([code]) + chance.randbytes(chance.choice((0, 1, 2, 4, 8)))


def _instructions(content: bytes) -> list[int]:
    found = []
    try:
        for _, _, position in pickletools.genops(io.BytesIO(content)):
            if position is not None:
                found.append(position)
            if len(found) > 4000:
                break
    except Exception:  # a mutation before this one
        pass
    return found


def _text_token(content: bytearray, chance: random.Random) -> None:
    """A number or a word becomes another."""
    words = [found.span() for found in re.finditer(rb"[^\s,;]+", content)]
    if words:
        begin, end = chance.choice(words)
        content[begin:end] = chance.choice(_TOKENS)


def _text_line(content: bytearray, chance: random.Random) -> None:
    lines = bytes(content).split(b"\n")
    at = chance.randrange(len(lines))
    action = chance.randrange(4)
    if action == 0:
        del lines[at]
    elif action == 1:
        lines.insert(at, chance.choice(lines or [b""]))
    elif action == 2:
        lines[at] = chance.choice(_TOKENS)
    else:
        lines[at] += chance.choice((b",", b" ", b"\t", b",x", b" # c"))
    content[:] = b"\n".join(lines)


def _text_indent(content: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(content) + 1)
    content[at:at] = chance.choice((b" ", b"  ", b"\n", b"- ", b": ", b"\xef\xbb\xbf", b"\xff\xfe"))


_ANY: tuple[Mutation, ...] = (_bits, _bits, _edge, _edge, _near, _near, _copy, _delete, _repeat, _clear, _cut)
_OF_KIND: dict[str, tuple[Mutation, ...]] = {
    "hdf5": (_hdf5_block, _hdf5_block, _hdf5_heap_reference),
    "pickle": (_pickle_instruction, _pickle_argument, _pickle_insert),
    "text": (_text_token, _text_line, _text_indent),
}
