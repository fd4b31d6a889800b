"""Messages between two of our own processes over a socket: pickled, large arrays beside the pickle."""

from __future__ import annotations

import pickle
import socket
import struct
from collections.abc import Callable
from typing import Any

REQUEST, NEWS, RESULT, ERROR, OVER_MEMORY = range(5)
"""Kinds of messages."""
_HEAD = struct.Struct("<BI")  # kind, number of parts
_SIZE = struct.Struct("<Q")
Patience = Callable[[], "float | None"]
"""How many seconds to wait for the next bytes, None = for ever; asked again and again, it raises when it is
too late."""


def for_ever() -> None:
    """Patience without end."""


class Wire:
    """One end of a connection. What pickle protocol 5 keeps out of the pickle, such as arrays, is copied once
    on its way: from the socket into its place."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def send(self, kind: int, value: Any, patience: Patience = for_ever) -> None:
        """Send a message. Raises OSError where the other end is gone, and what `patience` raises."""
        buffers: list[pickle.PickleBuffer] = []
        content = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
        parts = [memoryview(content), *(buffer.raw() for buffer in buffers)]
        head = _HEAD.pack(kind, len(parts)) + b"".join(_SIZE.pack(part.nbytes) for part in parts)
        for part in (memoryview(head), *parts):
            while part:
                part = part[self._patiently(patience, self._connection.send, part) :]

    def receive(self, patience: Patience = for_ever) -> tuple[int, Any]:
        """(kind, value). Raises EOFError, OSError where the other end is gone, and what `patience` raises."""
        kind, count = _HEAD.unpack(self._exactly(_HEAD.size, patience))
        sizes = [_SIZE.unpack(self._exactly(_SIZE.size, patience))[0] for _ in range(count)]
        content, *buffers = [self._exactly(size, patience) for size in sizes]
        return kind, pickle.loads(content, buffers=buffers)

    def close(self) -> None:
        self._connection.close()

    def _exactly(self, size: int, patience: Patience) -> bytearray:
        found = bytearray(size)
        rest = memoryview(found)
        while rest:
            count = self._patiently(patience, self._connection.recv_into, rest)
            if not count:
                raise EOFError
            rest = rest[count:]
        return found

    def _patiently(self, patience: Patience, step: Callable[[Any], int], part: memoryview) -> int:
        while True:
            self._connection.settimeout(patience())
            try:
                return step(part)
            except TimeoutError:
                continue
