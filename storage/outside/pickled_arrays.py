"""numpy's arrays, numbers and types in a pickle: what the file says of them is kept and checked, then copied.

numpy itself would set the state that it is given, addresses included, which ends the process or worse.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

_KIND = re.compile(r"[|<>=]?([?]|b1|[iu][1248]|f[248]|[SU][1-9][0-9]{0,6})")
_MOST_DIMENSIONS = 32
_ORDERS = ("<", ">", "|", "=")


class UnusableState(ValueError):
    """What a pickle says of an array, a number or a type cannot be."""


@dataclass(eq=False)
class PickledType:
    """A dtype: its code, and the order of its bytes once its state was given."""

    code: str
    order: str = "="

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type, made anew from two checked texts."""
        return np.dtype(self.code).newbyteorder(self.order)  # type: ignore[arg-type]


@dataclass(eq=False)
class PickledArray:
    """An array: nothing at first, shape and bytes once its state was given."""

    shape: tuple[int, ...] | None = None
    type: PickledType | None = None
    fortran: bool = False
    octets: bytes = b""

    @property
    def size(self) -> int:
        return len(self.octets)

    def value(self) -> np.ndarray[Any, Any]:
        """A copy of the values, in this machine's byte order."""
        if self.shape is None or self.type is None:
            raise UnusableState("an array without values")
        flat = np.frombuffer(self.octets, self.type.dtype)
        native = flat.astype(flat.dtype.newbyteorder("="), copy=True)
        return native.reshape(self.shape, order="F" if self.fortran else "C")


@dataclass(eq=False)
class PickledNumber:
    """A number of numpy's."""

    type: PickledType
    octets: bytes

    @property
    def size(self) -> int:
        return len(self.octets)

    def value(self) -> Any:
        """As Python's own."""
        return np.frombuffer(self.octets, self.type.dtype)[0].item()


def numpy_call(module: str, name: str, arguments: tuple[Any, ...]) -> Any:
    """What a function of numpy's that pickles name would make, as a record; None for any other function."""
    if (module, name) == ("numpy", "dtype"):
        return _type(arguments)
    inner = module.removeprefix("numpy.core.").removeprefix("numpy._core.")
    if inner == module:
        return None
    if (inner, name) == ("multiarray", "_reconstruct"):
        return PickledArray()
    if (inner, name) == ("multiarray", "scalar") and len(arguments) == 2:
        return _number(*arguments)
    if (inner, name) == ("numeric", "_frombuffer") and len(arguments) == 4:
        octets, kind, shape, order = arguments
        made = PickledArray()
        with_state(made, (1, shape, kind, order == "F", octets))
        return made
    return None


def with_state(made: PickledArray | PickledType, state: Any) -> None:
    """Keep a state (BUILD), each part of it checked. Raises UnusableState."""
    if not isinstance(state, tuple):
        raise UnusableState("the state of an array is no tuple")
    if isinstance(made, PickledType):
        _order(made, state)
        return
    if made.shape is not None or len(state) not in (4, 5):
        raise UnusableState(f"an array with a state of {len(state)} parts, or with a second one")
    shape, kind, fortran, octets = state[-4:]
    if not isinstance(kind, PickledType):
        raise UnusableState("an array without a type of numbers or text")
    made.octets = _octets(octets)
    made.shape, made.type, made.fortran = _shape(shape), kind, bool(fortran)
    wanted = math.prod(made.shape) * kind.dtype.itemsize
    if wanted != len(made.octets):
        raise UnusableState(f"an array of {wanted} bytes, {len(made.octets)} are given")


def _type(arguments: tuple[Any, ...]) -> PickledType:
    code = arguments[0] if arguments else None
    if isinstance(code, bytes):
        code = code.decode("latin1")
    if not isinstance(code, str) or not _KIND.fullmatch(code):
        raise UnusableState(f"arrays of {str(code)[:40]!r}; numbers and text only, no objects")
    return PickledType(code)


def _order(made: PickledType, state: tuple[Any, ...]) -> None:
    """A dtype's state: (version, order, subarray, names, fields, size, alignment, flags)."""
    order = state[1].decode("latin1") if len(state) > 1 and isinstance(state[1], bytes) else state[1:2]
    order = order[0] if isinstance(order, tuple) and order else order
    if order not in _ORDERS or any(part not in (None, ()) for part in state[2:5]):
        raise UnusableState("arrays of records or of an unknown byte order; numbers and text only")
    made.order = str(order)


def _number(kind: Any, octets: Any) -> PickledNumber:
    if not isinstance(kind, PickledType):
        raise UnusableState("a number without a type")
    octets = _octets(octets)
    if len(octets) != kind.dtype.itemsize:
        raise UnusableState(f"a number of {kind.dtype.itemsize} bytes, {len(octets)} are given")
    return PickledNumber(kind, octets)


def _octets(value: Any) -> bytes:
    """Bytes; Python 2's were a text."""
    if isinstance(value, str):
        value = value.encode("latin1")
    if not isinstance(value, bytes):
        raise UnusableState("values that are no bytes: arrays of objects are not read")
    return bytes(value)


def _shape(value: Any) -> tuple[int, ...]:
    usable = isinstance(value, tuple) and len(value) <= _MOST_DIMENSIONS
    if not usable or not all(type(size) is int and 0 <= size < 2**62 for size in value):
        raise UnusableState("the shape of an array is no tuple of sizes")
    return tuple(value)
