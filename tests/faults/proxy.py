"""A man in the middle between workers and server: loses answers, swallows everything, cuts. One thread for all connections."""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

_READY = b"Z\x00\x00\x00\x05"  # what every answer ends with: ReadyForQuery, and one byte for the transaction's state
_IDLE = b"I"
_CHUNK = 65_536
_GLANCE = 0.05  # seconds


class Proxy(Protocol):
    """What the tests need of it."""

    @property
    def dsn(self) -> str:
        """Of the server, by way of the proxy."""

    def lose_answers(self) -> None:
        """On every connection the next statement that ends a transaction reaches the server, its answer gets lost, and
        the connection is cut.
        """

    def swallow(self) -> None:
        """From now on nothing comes through in either direction, and nobody is told."""

    def restore(self) -> None:
        """Cuts every connection that swallowed something; new ones work."""


class _Pair:
    """One connection: the client's socket and the server's."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server
        self.losing = False
        self.swallowing = False
        self._asked = False
        self._answer = b""

    def forward(self, source: socket.socket) -> bool:
        """Moves what has come on one side to the other; False when that was the end."""
        data = source.recv(_CHUNK)
        if self.swallowing:
            # An end is swallowed too: the other side is not told.
            return True
        if not data:
            return False
        if source is self.client:
            self._asked = self.losing
            self.server.sendall(data)
            return True
        return self._answered(data)

    def _answered(self, data: bytes) -> bool:
        if not self._asked:
            self.client.sendall(data)
            return True
        self._answer += data
        if self._answer[-6:-1] != _READY:
            return True
        if self._answer.endswith(_IDLE):
            return False
        self.client.sendall(self._answer)
        self._answer, self._asked = b"", False
        return True

    def close(self) -> None:
        self.client.close()
        self.server.close()


class OwnProxy:
    """The proxy of these tests."""

    def __init__(self, host: str, port: int, rest: str) -> None:
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._pairs: list[_Pair] = []
        self._lock = threading.Lock()  # of the pairs
        self._swallowing = False
        self._closing = threading.Event()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._rest = rest

    @property
    def dsn(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self._listener.getsockname()[1]}/{self._rest}"

    def lose_answers(self) -> None:
        with self._lock:
            for pair in self._pairs:
                pair.losing = True

    def swallow(self) -> None:
        with self._lock:
            self._swallowing = True
            for pair in self._pairs:
                pair.swallowing = True

    def restore(self) -> None:
        with self._lock:
            self._swallowing = False
            for pair in [pair for pair in self._pairs if pair.swallowing]:
                self._drop(pair)

    def __enter__(self) -> OwnProxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join()
        for pair in list(self._pairs):
            self._drop(pair)
        self._selector.close()
        self._listener.close()

    def _run(self) -> None:
        while not self._closing.is_set():
            for key, _ in self._selector.select(_GLANCE):
                with self._lock:
                    if key.data is None:
                        self._accept()
                    elif key.data in self._pairs:
                        self._forward(key.data, key.fileobj)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        try:
            server = socket.create_connection(self._target)
        except OSError:
            client.close()
            return
        pair = _Pair(client, server)
        pair.swallowing = self._swallowing
        self._pairs.append(pair)
        for side in (client, server):
            side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._selector.register(side, selectors.EVENT_READ, pair)

    def _forward(self, pair: _Pair, source: object) -> None:
        assert isinstance(source, socket.socket)
        try:
            going_on = pair.forward(source)
        except OSError:
            going_on = pair.swallowing
        if not going_on:
            self._drop(pair)

    def _drop(self, pair: _Pair) -> None:
        for side in (pair.client, pair.server):
            self._selector.unregister(side)
        self._pairs.remove(pair)
        pair.close()


@contextmanager
def proxy(port: int) -> Iterator[Proxy]:
    """A proxy in front of the server on `port`."""
    with OwnProxy("127.0.0.1", port, "postgres") as running:
        yield running
