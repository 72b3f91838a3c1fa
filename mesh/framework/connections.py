"""Who is connected: how many at most, how long one may keep us waiting, who goes first.

A connection *owes* us something while its request has begun to come and is not here whole, and from
its start until then; it is *idle* between an answer and the next request; else we are at work for
it, and never let go of it. Beyond the bound the one that has owed longest goes, then the one
that has been idle longest: a newcomer with a request in its hand is worth more than either. On one
machine every client has the same address, so the bound of an address holds for those that owe: a
client that asks and reads may have as many connections as there are.
"""

from __future__ import annotations

import asyncio
import resource
from typing import TYPE_CHECKING

from mesh import clock

if TYPE_CHECKING:
    from mesh.framework.protocol import Connection

CONNECTIONS_MAX = 512
"""To one service; each may hold a body of a mebibyte on its way."""

DESCRIPTORS_KEPT = 40
"""Of the process's, for what is no client's: databases, logs, the bus, asks of others. A listener
that has none left to accept with is told of the same newcomer again and again, at once."""

OWING_MAX = 64
"""Of one address, that have owed for longer than GRACE_S."""

GRACE_S = 0.25
"""A request is on its way for less than this, also where many connect at once."""

HEAD_S = 5.0
"""Until a request's head must be here; its body is bounded where it is read."""

IDLE_S = 75.0
"""Longer than any client's pool keeps a connection, so that the client is who closes it."""

SWEEP_S = 1.0


class Connections:
    """Those of one server."""

    def __init__(self) -> None:
        """Nobody is there."""
        self._owing: dict[str, dict[Connection, float]] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self.here: set[Connection] = set()
        self.dropped = 0
        self.latest_s = 0.0
        """When the latest has come."""

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.here)

    def made(self, connection: Connection) -> bool:
        """One has come; False when there is no room for it."""
        if self.count >= _room() and not self._drop(self._oldest()):
            self.dropped += 1
            return False
        self.here.add(connection)
        self.owes(connection)
        self.latest_s = clock.monotonic_s()
        same = self._owing[connection.address]
        if len(same) > OWING_MAX:
            oldest, since_s = next(iter(same.items()))
            if clock.monotonic_s() - since_s > GRACE_S:
                self._drop(oldest)
        return True

    def owes(self, connection: Connection) -> None:
        """A request has begun to come."""
        connection.owes = True
        connection.idle_since_s = None
        self._owing.setdefault(connection.address, {})[connection] = clock.monotonic_s()
        if self._sweeper is None:
            self._sweep_later()

    def settled(self, connection: Connection) -> None:
        """Its request is here whole, or nobody waits for it any more."""
        connection.owes = False
        same = self._owing.get(connection.address)
        if same is not None:
            same.pop(connection, None)
            if not same:
                del self._owing[connection.address]

    def lost(self, connection: Connection) -> None:
        """It is gone."""
        self.settled(connection)
        self.here.discard(connection)

    @property
    def idle(self) -> dict[Connection, float]:
        """Those that have been answered, and since when."""
        return {
            connection: since_s
            for connection in self.here
            if (since_s := connection.idle_since_s) is not None
        }

    def _oldest(self) -> Connection | None:
        first = [next(iter(same.items())) for same in self._owing.values()]
        if first:
            return min(first, key=lambda row: row[1])[0]
        idle = self.idle
        return min(idle, key=idle.__getitem__, default=None)

    def _drop(self, connection: Connection | None) -> bool:
        if connection is None:
            return False
        self.dropped += 1
        self.settled(connection)  # at once; its end is told by the loop later
        connection.idle_since_s = None
        connection.drop()
        return True

    def _sweep_later(self) -> None:
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)

    def _sweep(self) -> None:
        """Let go of those whose request's head does not come, or no request at all."""
        now_s = clock.monotonic_s()
        late = [
            connection
            for same in self._owing.values()
            for connection, since_s in same.items()
            if since_s < now_s - HEAD_S and not connection.asked
        ]
        late += [
            connection for connection, since_s in self.idle.items() if since_s < now_s - IDLE_S
        ]
        for connection in late:
            self._drop(connection)
        self._sweeper = None
        if self.here:
            self._sweep_later()


def _room() -> int:
    """Connections that there may be, with the descriptors that this process has now."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors == resource.RLIM_INFINITY:
        return CONNECTIONS_MAX
    return min(CONNECTIONS_MAX, descriptors - DESCRIPTORS_KEPT)
