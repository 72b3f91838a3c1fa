"""Who reads the whole log in order of arrival: no cursor and no epochs, so no rules but the bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh.buses.contract import NO_HASH, Epoch, Link, StreamHead
from mesh.buses.zmq.protocol.broker import GET_BYTES_MAX, GET_ROWS_MAX
from mesh.buses.zmq.protocol.frames import Attach, Attached, Batch, Get, Reset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mesh.buses.zmq.log import Log

READERS_MAX = 256
"""Conversations that are remembered; the oldest must attach again."""


class Readers:
    """Answers them. `heads` tells every stream's head."""

    def __init__(self, log: Log, heads: Callable[[], tuple[StreamHead, ...]]) -> None:
        self._log = log
        self._heads = heads
        self._known: dict[tuple[bytes, int], Get | None] = {}
        """Each with its question that waits for a commit."""

    def held(self) -> Iterator[tuple[bytes, Attached | Reset | Batch]]:
        """The answers to all questions that have waited. Raises: LogBroken."""
        for peer, get in [(key[0], get) for key, get in self._known.items() if get is not None]:
            self._known[peer, get.session] = None
            yield peer, self._answer(peer, get)

    def answer(
        self, peer: bytes, frame: Attach | Get, *, more_comes: bool
    ) -> Attached | Reset | Batch | None:
        """What to answer; None: later, when what is being committed is there.

        Raises: LogBroken.
        """
        if (
            more_comes
            and isinstance(frame, Get)
            and (peer, frame.session) in self._known
            and frame.rows_max
            and frame.after.seq >= self._log.arrival
        ):
            self._known[peer, frame.session] = frame
            return None
        return self._answer(peer, frame)

    def _answer(self, peer: bytes, frame: Attach | Get) -> Attached | Reset | Batch:
        head = Link(0, self._log.arrival, NO_HASH)
        if isinstance(frame, Attach):
            self._known[peer, frame.session] = None
            while len(self._known) > READERS_MAX:
                self._known.pop(next(iter(self._known)))
            return Attached(frame.session, (Epoch(1, 0, NO_HASH, self._log.life),), head, 1)
        if (peer, frame.session) not in self._known:
            return Reset(frame.session, "PROTO", frame.req)
        if not frame.rows_max:
            return Batch(frame.session, frame.req, head, (), heads=self._heads())
        rows, room = min(frame.rows_max, GET_ROWS_MAX), min(frame.bytes_max, GET_BYTES_MAX)
        found = self._log.arrivals(frame.after.seq, rows, room)
        numbers = tuple(each.arrival for each in found)
        events = tuple(each.event for each in found)
        return Batch(frame.session, frame.req, head, events, numbers)
