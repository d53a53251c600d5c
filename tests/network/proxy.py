"""A network between clients and a real server, with switches: cut, cut at a chosen moment, swallow, refuse.

One thread takes connections, and two forward each of them; the switches are for the test's own thread.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from psycopg.conninfo import conninfo_to_dict, make_conninfo

_ANSWERED = b"Z\x00\x00\x00\x05"  # ReadyForQuery ends every answer, with one byte more


class Proxy:
    """Forwards TCP connections to the server of `dsn`.

    Attributes:
        dsn: `dsn` through this proxy.
    """

    def __init__(self, dsn: str) -> None:
        self._server = conninfo_to_dict(dsn)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._switch = threading.Condition()  # guards what follows
        self._links: list[_Link] = []
        self._swallowing = self._refusing = self._closed = False
        self._marker, self._answered = b"", threading.Event()
        # Encrypted, no statement could be recognised.
        here = {"host": "127.0.0.1", "port": self._listener.getsockname()[1], "sslmode": "disable", "gssencmode": "disable"}
        self.dsn = make_conninfo(dsn, **here)
        self._acceptor = threading.Thread(target=self._accept, name="proxy")
        self._acceptor.start()

    def cut(self) -> None:
        """Closes all connections; new ones are welcome."""
        with self._switch:
            links, self._links = self._links, []
            for link in links:
                link.cut = True
            self._switch.notify_all()
        for link in links:
            link.close()

    def cut_after(self, marker: bytes) -> threading.Event:
        """Once, when a client sends something that contains `marker`: the server gets it, but the client no answer.

        Returns:
            Set when the client's connection is closed and the server has answered.
        """
        with self._switch:
            self._marker, self._answered = marker, threading.Event()
            return self._answered

    def swallow(self) -> None:
        """Keeps connections open, takes new ones, and forwards nothing."""
        with self._switch:
            self._swallowing = True

    def refuse(self) -> None:
        """Ends new connections as soon as they come."""
        with self._switch:
            self._refusing = True

    def restore(self) -> None:
        """Takes connections and forwards again; what was swallowed arrives now."""
        with self._switch:
            self._swallowing = self._refusing = False
            self._switch.notify_all()

    def close(self) -> None:
        """Closes everything; no thread is left."""
        with self._switch:
            self._closed = True
        socket.create_connection(self._listener.getsockname()).close()  # ends the acceptor's wait
        self._acceptor.join()
        self._listener.close()
        self.cut()

    def forwards(self, link: _Link) -> bool:
        """Waits while everything is swallowed; False: the link was cut."""
        with self._switch:
            self._switch.wait_for(lambda: link.cut or not self._swallowing)
            return not link.cut

    def is_last_word(self, data: bytes) -> threading.Event | None:
        """What to set after the answer to `data`, if this is what `cut_after` was told to wait for."""
        with self._switch:
            if not self._marker or self._marker not in data:
                return None
            self._marker = b""
            return self._answered

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            with self._switch:
                if not self._closed and not self._refusing and (server := _connected(self._server)):
                    self._links.append(_Link(self, client, server))
                else:
                    client.close()
                if self._closed:
                    return


class _Link:
    """One client's connection, and the one to the server on its behalf."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self.cut = False  # written by the proxy
        self._proxy = proxy
        self._client = client
        self._server = server
        self._last_word: threading.Event | None = None
        self._threads = [threading.Thread(target=self._run, args=[way], name="proxy") for way in (self._ask, self._answer)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        _shut(self._client)
        _shut(self._server)
        for thread in self._threads:
            thread.join()
        self._client.close()
        self._server.close()

    def _run(self, way: Any) -> None:
        try:
            way()
        except OSError:
            pass  # one side has closed
        if not self._last_word and self._proxy.forwards(self):
            _shut(self._client)
            _shut(self._server)

    def _ask(self) -> None:
        tail = b""
        while (data := self._client.recv(65536)) and self._proxy.forwards(self):
            self._last_word = self._proxy.is_last_word(tail + data)
            if self._last_word:
                # First of all, lest the other thread forward the answer.
                _shut(self._client)
            self._server.sendall(data)
            tail = (tail + data)[-100:]

    def _answer(self) -> None:
        tail = b""
        while (data := self._server.recv(65536)) and self._proxy.forwards(self):
            tail = (tail + data)[-len(_ANSWERED) - 1 :]
            if not self._last_word:
                self._client.sendall(data)
            elif tail.startswith(_ANSWERED):
                _shut(self._server)
                self._last_word.set()


@contextmanager
def proxied(dsn: str) -> Iterator[Proxy]:
    """A proxy in front of the server of `dsn`."""
    proxy = Proxy(dsn)
    try:
        yield proxy
    finally:
        proxy.close()


def _connected(server: dict[str, Any]) -> socket.socket | None:
    host, port = str(server.get("host") or "localhost"), int(server.get("port") or 5432)
    try:
        if not host.startswith("/"):
            return socket.create_connection((host, port))
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(f"{host}/.s.PGSQL.{port}")
        return connection
    except OSError:
        return None


def _shut(side: socket.socket) -> None:
    try:
        side.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it is closed already
