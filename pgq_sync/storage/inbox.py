"""What reaches a listener from outside while it waits: notifications on its connection, and wakes by other threads.

Used by the listener thread alone, but for `wake`.
"""

from __future__ import annotations

import selectors
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

import psycopg

from pgq_sync.storage.names import Names
from pgq_sync.storage.notifications import Notice, parse, subscribe, subscribe_own
from pgq_sync.storage.waker import Waker

PROBE = 60.0  # seconds between two notifications to itself
_ECHO = 2.0  # seconds that such a one may take
_LONGEST_WAIT = 86_400.0  # seconds: some systems cannot wait for more than some weeks
_ANYTHING = Notice(0, 0)


class Inbox:
    """Notifications and wakes of one listener.

    Args:
        connection: in autocommit; the caller closes it.
    """

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        descriptor = connection.fileno()  # first: a lost connection has none
        self._waker = Waker()
        self._selector = selectors.DefaultSelector()
        self._selector.register(descriptor, selectors.EVENT_READ)
        self._selector.register(self._waker, selectors.EVENT_READ)
        self._heard: deque[str] = deque()
        self._own_channel = ""
        self._echoed = False
        self._next_probe = 0.0

    def close(self) -> None:
        self._selector.close()
        self._waker.close()

    def subscribe(self, names: Names) -> bool:
        """Has the connection hear an installation's notifications; returns whether they arrive."""
        self._connection.add_notify_handler(lambda notification: self._take(notification.channel, notification.payload))
        self._own_channel = subscribe_own(self._connection, subscribe(self._connection, names))
        return self._echo()

    def arm(self) -> None:
        """Forgets the wakes so far: to be called before looking for what they meant."""
        self._waker.clear()

    def wake(self) -> None:
        """Ends the wait, or the next one. Safe from any thread."""
        self._waker.set()

    @property
    def woken(self) -> bool:
        """Whether a wake came since `arm`."""
        return self._waker.is_set()

    def notices(self) -> Iterator[Notice]:
        """The notifications that have arrived."""
        self._receive()
        while self._heard:
            try:
                yield parse(self._heard.popleft())
            except ValueError:
                yield _ANYTHING  # somebody else's message

    def wait(self, seconds: float) -> None:
        """Blocks until something arrives, but no longer than so. What has arrived before is not waited for: ask first."""
        ready = self._selector.select(min(max(seconds, 0.0), _LONGEST_WAIT))
        if any(key.fileobj is self._waker for key, _ in ready):
            self._waker.drain()

    def is_deaf(self, now: float) -> bool:
        """Whether notifications arrive no more; asked for in earnest only once in a while."""
        return now >= self._next_probe and not self._echo()

    def _echo(self) -> bool:
        """Whether a notification to itself arrives: a connection may be open, and answer, and yet bring none."""
        self._next_probe = time.monotonic() + PROBE
        self._echoed = False
        self._connection.execute("select pg_notify(%s, '')", [self._own_channel])
        # It comes with the answer, or nearly so.
        if not self._echoed:
            with selectors.DefaultSelector() as alone:  # a wake is none
                alone.register(self._connection.fileno(), selectors.EVENT_READ)
                alone.select(_ECHO)
            self._receive()
        return self._echoed

    def _receive(self) -> None:
        # What came during a statement went to the handler. The rest is asked of libpq itself: `Connection.notifies`
        # takes a tenth of a millisecond to say that there is nothing, twice for each job that an idle worker starts.
        self._connection.pgconn.consume_input()
        while notification := self._connection.pgconn.notifies():
            self._take(notification.relname.decode(), notification.extra.decode(self._connection.info.encoding, "replace"))

    def _take(self, channel: str, message: str) -> None:
        if channel == self._own_channel:
            self._echoed = True
        else:
            self._heard.append(message)
