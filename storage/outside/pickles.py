"""Pickles from outside, read as data: nothing that a file names is looked up, called or built.

Taken are None, bool, int, float, str, bytes, lists, tuples, dicts, and numpy's arrays and numbers: their
state is recorded, checked, and only then are their values copied from the file's bytes. All protocols, Python
2's too.
The instructions are read by Lib/pickle.py of Python; those that import, call or build are replaced.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

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
_MOST_INT_BITS = 128
_NOTHING = object()
_TAKEN = "only lists, dicts, text, numbers and arrays are read"
_DAMAGED = (
    pickle.UnpicklingError,
    UnusableState,
    struct.error,
    LookupError,
    AttributeError,
    TypeError,
    ValueError,
)
_KEYS = (str, bytes, int, float, type(None))
Call = Callable[[tuple[Any, ...]], Any]


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
    read = _Content(content, start)
    try:
        value = _Reader(read, calls or {}, persistent).load()
        return _Finish(encoding, len(content)).plain(value, 0), read.position
    except BadPickle:
        raise
    except _DAMAGED as error:
        raise BadPickle(f"damaged pickle ({error or type(error).__name__}); get it again") from None


class _Content:
    """The file as pickle reads it. A size beyond its end takes no memory."""

    def __init__(self, content: bytes, position: int) -> None:
        self.content, self.position = content, position

    def read(self, size: int) -> bytes:
        left = len(self.content) - self.position
        if size > left:
            raise BadPickle(f"it ends too early: {size} bytes are announced, {left} are left; get it again")
        self.position += size
        return self.content[self.position - size : self.position]

    def readline(self) -> bytes:
        return self.read(self.content.index(b"\n", self.position) + 1 - self.position)


class _Memo(dict[int, Any]):
    """What a pickle remembers, no more than it can hold."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def __setitem__(self, number: int, value: Any) -> None:
        if number >= self.most:
            raise BadPickle(f"it remembers value {number}, more than it can hold; get it again")
        super().__setitem__(number, value)


class _Reader(pickle._Unpickler):
    """Python's own reader in Python, without the instructions that import, call or build."""

    stack: list[Any]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]

    def __init__(
        self,
        content: _Content,
        calls: Mapping[tuple[str, str], Call],
        persistent: Callable[[Any], Any] | None,
    ) -> None:
        super().__init__(content)
        self.memo = _Memo(len(content.content))
        self.calls, self.persistent = calls, persistent
        self.dicts: set[int] = set()

    def find_class(self, module: str, name: str) -> Any:
        return Named(module, name)

    def persistent_load(self, pid: Any) -> Any:
        if self.persistent is None:
            raise BadPickle("it refers to values outside of itself; give one that holds all of them")
        return self.persistent(pid)

    def _decode_string(self, value: bytes) -> OldText:
        return OldText(value)

    def refuse(self) -> None:
        raise RefusedPickle(f"it builds objects or sets; {_TAKEN}")

    def call(self) -> None:
        """REDUCE: of numpy's and the caller's functions what they would make, as a record."""
        arguments, function = self.stack.pop(), self.stack.pop()
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
        self.append(made)

    def build(self) -> None:
        """BUILD: the state of an array or of a type is kept beside it; of anything else it is refused."""
        state, inner = self.stack.pop(), self.stack[-1]
        if isinstance(inner, PickledArray | PickledType):
            with_state(inner, state)
        elif id(inner) not in self.dicts:  # the attributes of an ordered dict are no values
            raise RefusedPickle(f"it sets the state of a {type(inner).__name__}; {_TAKEN}")

    def begin_dict(self) -> None:
        pairs = self.pop_mark()
        self.append({})
        self.set_items(pairs)

    def set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.set_items([key, value])

    def set_items(self, pairs: list[Any]) -> None:
        """Keys are looked at before they are hashed: tuples in tuples would end the process."""
        target = self.stack[-1]
        if type(target) is not dict:
            raise BadPickle("damaged pickle (items of no dict); get it again")
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            if not isinstance(key, _KEYS):
                raise BadPickle(f"a dict has a {type(key).__name__} as its key; use text or numbers")
            target[key] = value

    dispatch: ClassVar[dict[int, Any]] = {
        **pickle._Unpickler.dispatch,
        **dict.fromkeys(b"io\x81\x82\x83\x84\x8f\x90\x91\x92\x97\x98", refuse),
        pickle.BYTEARRAY8[0]: pickle._Unpickler.dispatch[pickle.BINBYTES8[0]],
        pickle.REDUCE[0]: call,
        pickle.BUILD[0]: build,
        pickle.DICT[0]: begin_dict,
        pickle.SETITEM[0]: set_item,
        pickle.SETITEMS[0]: lambda self: self.set_items(self.pop_mark()),
    }


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
        if isinstance(value, int) and value.bit_length() > _MOST_INT_BITS:
            raise BadPickle(f"an integer of {value.bit_length()} bits; up to {_MOST_INT_BITS} are read")
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
