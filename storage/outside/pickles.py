"""Pickles from outside, read as data: nothing that a file names is looked up, called or built.

Taken are None, bool, int, float, str, bytes, lists, tuples, dicts, and numpy's arrays and numbers: their
state is recorded, checked, and only then are their values copied from the file's bytes. All protocols, Python
2's too.
Source of the format: Lib/pickletools.py of Python.
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage.outside.pickled_arrays import (
    PickledArray,
    PickledNumber,
    PickledType,
    UnusableState,
    numpy_call,
    with_state,
)

MOST_BYTES = 1 << 30
MOST_DEPTH = 64
_MOST_DIGITS, _MOST_INT_BYTES = 40, 16
_OPENED, _NOTHING = object(), object()
_TAKEN = "only lists, dicts, text, numbers and arrays are read"
_KEYS = (str, bytes, int, float, type(None))
Call = Callable[[tuple[Any, ...]], Any]
Instruction = Callable[["_Machine"], object]


class BadPickle(ValueError):
    """A pickle that is damaged, too large, or holds more than plain values and arrays."""


class RefusedPickle(BadPickle):
    """A pickle that asks for something that would have to be imported, called or built."""


@dataclass(frozen=True)
class Named:
    """Something of a module that the file names. It is a name and stays one."""

    module: str
    name: str

    @property
    def both(self) -> tuple[str, str]:
        return self.module, self.name

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"[:200]


class OldText(bytes):
    """A str of Python 2: text or octets, which only its use tells."""


class Kept:
    """What a caller's `calls` make: passed through as it is. Base of such classes."""


def read_pickle(path: Path, encoding: str = "utf-8") -> Any:
    """The value of a file. encoding: of Python 2's texts. Raises BadPickle that names the file, OSError."""
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise BadPickle(f"{path}: {size} bytes are more than a pickle of lists has ({MOST_BYTES}); split it")
    try:
        return loads(path.read_bytes(), encoding)[0]
    except BadPickle as error:
        raise BadPickle(f"{path}: {error}") from None


def loads(
    content: bytes,
    encoding: str = "utf-8",
    *,
    start: int = 0,
    calls: Mapping[tuple[str, str], Call] | None = None,
    persistent: Callable[[Any], Any] | None = None,
) -> tuple[Any, int]:
    """(the value, where it ends) of a pickle that begins at `start`. calls: what else may be called, and what
    is kept (Kept) in its place; persistent: of an id.

    Raises BadPickle. Time and memory are in proportion to the content.
    """
    machine = _Machine(content, dict(calls or {}), persistent)
    machine.position = start
    try:
        value = machine.run()
        return _Finish(encoding, len(content)).plain(value, 0), machine.position
    except (UnusableState, struct.error, UnicodeError, IndexError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, BadPickle):
            raise
        raise BadPickle(f"damaged pickle ({error or type(error).__name__}); get it again") from None


_BUILDERS = b"ioP\x81\x82\x83\x84\x8f\x90\x91\x92\x97\x98"


def _why_not(code: int) -> BadPickle:
    if code in _BUILDERS:
        return RefusedPickle(f"it builds objects or sets (instruction 0x{code:02X}); {_TAKEN}")
    return BadPickle(f"damaged pickle (no instruction is 0x{code:02X}); get it again")


class _Machine:
    """The stack machine of pickle, without the instructions that import, call or build."""

    def __init__(
        self,
        content: bytes,
        calls: dict[tuple[str, str], Call],
        persistent: Callable[[Any], Any] | None,
    ) -> None:
        self.content, self.position = content, 0
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.calls, self.persistent = calls, persistent
        self.dicts: set[int] = set()

    def run(self) -> Any:
        """Everything up to STOP; the value."""
        content, table = self.content, _INSTRUCTIONS
        while True:
            if self.position >= len(content):
                raise BadPickle("it ends too early; get it again")
            code = content[self.position]
            self.position += 1
            if code == 0x2E:  # STOP
                return self.pop()
            instruction = table[code]
            if instruction is None:
                raise _why_not(code)
            instruction(self)

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _OPENED:
            raise BadPickle("damaged pickle (a mark where a value is wanted); get it again")
        return value

    def last(self, count: int) -> list[Any]:
        """The last values of the stack, in its order."""
        return [self.pop() for _ in range(count)][::-1]

    def top(self) -> Any:
        return self.stack[-1]

    def since_mark(self) -> list[Any]:
        """Values above the last mark, which goes too."""
        at = len(self.stack) - 1
        while self.stack[at] is not _OPENED:
            at -= 1
            if at < 0:
                raise BadPickle("damaged pickle (no mark); get it again")
        values = self.stack[at + 1 :]
        del self.stack[at:]
        return values

    def take(self, size: int) -> bytes:
        """The next bytes. A size beyond the end of the file takes no memory."""
        if not 0 <= size <= len(self.content) - self.position:
            raise BadPickle(f"it announces {size} bytes and ends before; get it again")
        self.position += size
        return self.content[self.position - size : self.position]

    def number(self, form: struct.Struct) -> Any:
        at = self.position
        self.position += form.size
        return form.unpack_from(self.content, at)[0]

    def line(self) -> bytes:
        """Up to the end of the line, without it."""
        begin, end = self.position, self.content.index(b"\n", self.position)
        self.position = end + 1
        return self.content[begin:end]

    def called(self) -> None:
        """REDUCE: of numpy's and the caller's functions what they would make, as a record."""
        arguments, function = self.pop(), self.pop()
        if not isinstance(function, Named) or not isinstance(arguments, tuple):
            raise BadPickle(f"damaged pickle (a call of {type(function).__name__}); get it again")
        plain = tuple(bytes(a) if isinstance(a, OldText) else a for a in arguments)
        made = _basic_call(function, plain)
        if made is _NOTHING and function.both in self.calls:
            made = self.calls[function.both](plain)
            if isinstance(made, dict):
                self.dicts.add(id(made))
        elif made is _NOTHING:
            made = numpy_call(function.module, function.name, plain)
        if made is None:
            raise RefusedPickle(f"it asks for {function}; {_TAKEN}")
        self.stack.append(made)

    def built(self) -> None:
        """BUILD: the state of an array or of a type is kept beside it; of anything else it is refused."""
        state, inner = self.pop(), self.top()
        if isinstance(inner, PickledArray | PickledType):
            with_state(inner, state)
        elif id(inner) not in self.dicts:  # the attributes of an ordered dict are no values
            raise RefusedPickle(f"it sets the state of a {type(inner).__name__}; {_TAKEN}")

    def set_items(self, pairs: list[Any]) -> None:
        target = self.top()
        if type(target) is not dict or len(pairs) % 2:
            raise BadPickle("damaged pickle (items of no dict); get it again")
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            if not isinstance(key, _KEYS):
                raise BadPickle(f"a dict has a {type(key).__name__} as its key; use text or numbers")
            target[key] = value

    def append(self, values: list[Any]) -> None:
        target = self.top()
        if type(target) is not list:
            raise BadPickle("damaged pickle (appends to no list); get it again")
        target.extend(values)


def _basic_call(function: Named, arguments: tuple[Any, ...]) -> Any:
    """What stands for bytes in protocols without them."""
    if function.both == ("_codecs", "encode") and len(arguments) == 2:
        text, encoding = arguments
        if isinstance(text, str) and _text(encoding) in ("latin1", "latin-1"):
            return text.encode("latin1")
    if function.module in ("builtins", "__builtin__") and function.name == "bytes" and not arguments:
        return b""
    return _NOTHING


def _text(value: Any) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)


class _Finish:
    """Records to values: arrays are copied, nothing refers to itself, nothing is deeper than MOST_DEPTH."""

    def __init__(self, encoding: str, budget: int) -> None:
        self.encoding, self.budget = encoding, budget
        self.done: dict[int, Any] = {}
        self.kept: list[Any] = []

    def plain(self, value: Any, depth: int) -> Any:
        if value is None or isinstance(value, bool | int | float | str | Kept):
            return value
        if isinstance(value, bytes):
            return value.decode(self.encoding) if isinstance(value, OldText) else value
        if depth > MOST_DEPTH:
            raise BadPickle(f"lists in lists, more than {MOST_DEPTH} deep or in themselves; make it flat")
        if id(value) not in self.done:
            self.done[id(value)] = self.made(value, depth + 1)
            self.kept.append(value)
        return self.done[id(value)]

    def made(self, value: Any, depth: int) -> Any:
        if isinstance(value, list | tuple):
            return type(value)([self.plain(each, depth) for each in value])
        if isinstance(value, dict):
            return {self.plain(key, depth): self.plain(each, depth) for key, each in value.items()}
        if isinstance(value, PickledArray | PickledNumber):
            self.budget -= value.size
            if self.budget < 0:
                raise BadPickle("its arrays are larger than the file; get it again")
            return value.value()
        what = str(value) if isinstance(value, Named) else type(value).__name__
        raise RefusedPickle(f"it holds {what}; {_TAKEN}")


def _push(value: Any) -> Instruction:
    return lambda machine: machine.stack.append(value)


def _fixed(form: str) -> Instruction:
    packed = struct.Struct(form)
    return lambda machine: machine.stack.append(machine.number(packed))


def _sized(form: str, made: Callable[[bytes], Any]) -> Instruction:
    packed = struct.Struct(form)
    return lambda machine: machine.stack.append(made(machine.take(machine.number(packed))))


def _by_line(made: Callable[[bytes], Any]) -> Instruction:
    return lambda machine: machine.stack.append(made(machine.line()))


def _utf8(text: bytes) -> str:
    return text.decode("utf-8", "surrogatepass")


def _long(octets: bytes) -> int:
    if len(octets) > _MOST_INT_BYTES:
        raise BadPickle(f"an integer of {len(octets)} bytes; up to {_MOST_INT_BYTES} are read")
    return int.from_bytes(octets, "little", signed=True)


def _decimal(text: bytes) -> int:
    if len(text) > _MOST_DIGITS:
        raise BadPickle(f"an integer of {len(text)} digits; up to {_MOST_DIGITS} are read")
    return {b"00": False, b"01": True}.get(text) if text in (b"00", b"01") else int(text.rstrip(b"L"))  # type: ignore[return-value]


def _quoted(text: bytes) -> OldText:
    text = text.strip()
    if len(text) < 2 or text[:1] != text[-1:] or text[:1] not in (b"'", b'"'):
        raise BadPickle("damaged pickle (a text without quotes); get it again")
    return OldText(codecs.escape_decode(text[1:-1])[0])  # type: ignore[attr-defined]


def _put(key: Callable[[_Machine], int]) -> Instruction:
    def put(machine: _Machine) -> None:
        value = machine.top()
        if value is _OPENED:
            raise BadPickle("damaged pickle (a mark is remembered); get it again")
        number = key(machine)
        if not 0 <= number < len(machine.content):
            raise BadPickle(f"it remembers value {number}, more than it can hold; get it again")
        machine.memo[number] = value

    return put


def _get(key: Callable[[_Machine], int]) -> Instruction:
    return lambda machine: machine.stack.append(machine.memo[key(machine)])


def _key(form: str) -> Callable[[_Machine], int]:
    packed = struct.Struct(form)
    return lambda machine: int(machine.number(packed))


def _dict_since_mark(machine: _Machine) -> None:
    pairs = machine.since_mark()
    machine.stack.append({})
    machine.set_items(pairs)


def _named_by_stack(machine: _Machine) -> None:
    name, module = machine.pop(), machine.pop()
    machine.stack.append(Named(_text(module), _text(name)))


def _named_by_lines(machine: _Machine) -> None:
    machine.stack.append(Named(machine.line().decode(), machine.line().decode()))


def _persistent(machine: _Machine) -> None:
    if machine.persistent is None:
        raise BadPickle("it refers to values outside of itself; give one that holds all of them")
    machine.stack.append(machine.persistent(machine.pop()))


_BY_CODE: dict[bytes, Instruction] = {
    b"(": _push(_OPENED),
    b"0": lambda machine: machine.stack.pop(),
    b"1": lambda machine: machine.since_mark(),
    b"2": lambda machine: machine.stack.append(machine.top()),
    b"N": _push(None),
    b"\x88": _push(True),
    b"\x89": _push(False),
    b"I": _by_line(_decimal),
    b"L": _by_line(_decimal),
    b"F": _by_line(float),
    b"J": _fixed("<i"),
    b"K": _fixed("<B"),
    b"M": _fixed("<H"),
    b"G": _fixed(">d"),
    b"\x8a": _sized("<B", _long),
    b"\x8b": _sized("<i", _long),
    b"S": _by_line(_quoted),
    b"T": _sized("<i", OldText),
    b"U": _sized("<B", OldText),
    b"V": _by_line(lambda text: text.decode("raw-unicode-escape")),
    b"X": _sized("<I", _utf8),
    b"\x8c": _sized("<B", _utf8),
    b"\x8d": _sized("<Q", _utf8),
    b"B": _sized("<I", bytes),
    b"C": _sized("<B", bytes),
    b"\x8e": _sized("<Q", bytes),
    b"\x96": _sized("<Q", bytes),
    b"]": lambda machine: machine.stack.append([]),
    b"}": lambda machine: machine.stack.append({}),
    b")": _push(()),
    b"l": lambda machine: machine.stack.append(machine.since_mark()),
    b"d": _dict_since_mark,
    b"t": lambda machine: machine.stack.append(tuple(machine.since_mark())),
    b"\x85": lambda machine: machine.stack.append(tuple(machine.last(1))),
    b"\x86": lambda machine: machine.stack.append(tuple(machine.last(2))),
    b"\x87": lambda machine: machine.stack.append(tuple(machine.last(3))),
    b"a": lambda machine: machine.append(machine.last(1)),
    b"e": lambda machine: machine.append(machine.since_mark()),
    b"s": lambda machine: machine.set_items(machine.last(2)),
    b"u": lambda machine: machine.set_items(machine.since_mark()),
    b"p": _put(lambda machine: _decimal(machine.line())),
    b"q": _put(_key("<B")),
    b"r": _put(_key("<I")),
    b"\x94": _put(lambda machine: len(machine.memo)),
    b"g": _get(lambda machine: _decimal(machine.line())),
    b"h": _get(_key("<B")),
    b"j": _get(_key("<I")),
    b"c": _named_by_lines,
    b"\x93": _named_by_stack,
    b"Q": _persistent,
    b"R": _Machine.called,
    b"b": _Machine.built,
    b"\x80": lambda machine: machine.take(1),
    b"\x95": lambda machine: machine.take(8),
}
_INSTRUCTIONS = [_BY_CODE.get(bytes([code])) for code in range(256)]
