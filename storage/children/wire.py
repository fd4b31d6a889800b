"""Messages between two of our own processes over a socket: pickled, large arrays beside the pickle, in memory
that both can map."""

from __future__ import annotations

import mmap
import os
import pickle
import socket
import struct
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")

REQUEST, NEWS, RESULT, ERROR, OVER_MEMORY = range(5)
"""Kinds of messages."""
_HEAD = struct.Struct("<BI")  # kind, number of parts
_SIZE = struct.Struct("<Q")
_MAPPED = 1 << 20 if hasattr(os, "memfd_create") else 1 << 64  # bytes from which a part is mapped, not sent
_CLOSED_ON_EXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
Patience = Callable[[], "float | None"]
"""How many seconds to wait for the next bytes, None = for ever; asked again and again, it raises when it is
too late."""


def for_ever() -> None:
    """Patience without end."""


class Wire:
    """One end of a connection. What pickle protocol 5 keeps out of the pickle, such as arrays, is copied once
    on its way; what arrives is the receiver's own."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def send(self, kind: int, value: Any, patience: Patience = for_ever) -> None:
        """Send a message. Raises OSError where the other end is gone, and what `patience` raises."""
        buffers: list[pickle.PickleBuffer] = []
        content = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
        parts = [memoryview(content), *(buffer.raw() for buffer in buffers)]
        head = _HEAD.pack(kind, len(parts)) + b"".join(_SIZE.pack(part.nbytes) for part in parts)
        self._send(memoryview(head), patience)
        for part in parts:
            if part.nbytes < _MAPPED:
                self._send(part, patience)
            else:
                self._send_mapped(part, patience)

    def receive(self, patience: Patience = for_ever) -> tuple[int, Any]:
        """(kind, value). Raises EOFError, OSError where the other end is gone, and what `patience` raises."""
        kind, count = _HEAD.unpack(self._exactly(_HEAD.size, patience))
        sizes = [_SIZE.unpack(self._exactly(_SIZE.size, patience))[0] for _ in range(count)]
        content, *buffers = [
            self._exactly(size, patience) if size < _MAPPED else self._mapped(size, patience)
            for size in sizes
        ]
        return kind, pickle.loads(content, buffers=buffers)

    def close(self) -> None:
        self._connection.close()

    def _send(self, part: memoryview, patience: Patience) -> None:
        while part:
            part = part[self._patiently(patience, partial(self._connection.send, part)) :]

    def _send_mapped(self, part: memoryview, patience: Patience) -> None:
        file = os.memfd_create("part of a message")
        try:
            while part:
                part = part[os.write(file, part) :]
            self._patiently(patience, lambda: socket.send_fds(self._connection, [b"m"], [file]))
        finally:
            os.close(file)

    def _mapped(self, size: int, patience: Patience) -> mmap.mmap:
        read, files, *_ = self._patiently(
            patience, lambda: socket.recv_fds(self._connection, 1, 1, _CLOSED_ON_EXEC)
        )
        if not read:
            raise EOFError
        try:
            return mmap.mmap(files[0], size)
        finally:
            os.close(files[0])

    def _exactly(self, size: int, patience: Patience) -> bytearray:
        found = bytearray(size)
        rest = memoryview(found)
        while rest:
            count = self._patiently(patience, partial(self._connection.recv_into, rest))
            if not count:
                raise EOFError
            rest = rest[count:]
        return found

    def _patiently(self, patience: Patience, step: Callable[[], T]) -> T:
        while True:
            self._connection.settimeout(patience())
            try:
                return step()
            except TimeoutError:
                continue
