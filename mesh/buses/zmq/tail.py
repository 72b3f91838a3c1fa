"""Reads the whole log in order of arrival: for `events tail`, lag, and checks. No cursor is kept."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from mesh.buses.contract import ORIGIN, Arrived, Position
from mesh.buses.zmq.protocol.frames import EVERYTHING, Attach, Attached, Batch, Get, Reset
from mesh.buses.zmq.protocol.timing import POLL_S, REPLY_S
from mesh.buses.zmq.wire import new_session
from mesh.errors import BusUnavailable, Forbidden

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from mesh.buses.contract import Link, StreamHead
    from mesh.buses.zmq.protocol.frames import Frame, ToConsumer

REACH_S = 5.0
"""A bus that answers nothing for so long is unavailable; a restart takes a tenth of it."""

RESEND_S = 0.02
"""While nobody is connected, a question is offered to the socket this often."""

ROWS_MAX = 256
BYTES_MAX = 512 * 1024
"""Of one question: a millisecond of the bus's time."""


class Tail:
    """One reader. `hear` must be given every frame of `session`; `ring` says there is news."""

    def __init__(self, name: str, send: Callable[[Frame], bool]) -> None:
        """Say nothing yet."""
        self._name = name
        self._send = send
        self._req = 0
        self._answer: asyncio.Future[ToConsumer] | None = None
        self._news = asyncio.Event()
        self.session = new_session()

    def hear(self, frame: ToConsumer) -> None:
        """An answer; late ones are dropped."""
        late = isinstance(frame, Batch) and frame.req != self._req
        if self._answer is not None and not self._answer.done() and not late:
            self._answer.set_result(frame)

    def ring(self) -> None:
        """Something has arrived at the bus."""
        self._news.set()

    async def heads(self) -> list[StreamHead]:
        """Every stream's head. Raises: BusUnavailable, Forbidden."""
        _, heads = await self._begin()
        return list(heads)

    async def arrivals(self, after: int, *, follow: bool) -> AsyncIterator[list[Arrived]]:
        """The contract's `arrivals`; once begun, a follower waits for a bus however long it is away.

        A log made anew numbers its arrivals from 1 again and fills up with what was there
        before; only what is beyond what has been read is news then. Of a stream of which nothing
        was read yet that is what lies beyond its head at the start, unless the log was remade
        while its past was still being read: then all of it, rather than to miss some.
        """
        attached, heads = await self._begin()
        life, goal = attached.epochs[0].nonce, attached.head.seq
        begun = {each.stream: _place(each.head) for each in heads}
        seen: dict[str, Position] = {}
        known: dict[str, Position] = {}
        at = max(0, goal + after) if after < 0 else after
        caught_up = at >= goal
        while follow or at < goal:
            self._news.clear()
            try:
                batch = await self._get(at, ROWS_MAX, patient=follow)
            except _Forgotten:
                attached, _ = await self._begin(patient=follow)
                if attached.epochs[0].nonce != life:
                    life, at = attached.epochs[0].nonce, 0
                    known = {**begun, **seen} if caught_up else dict(seen)
                continue
            found = list(map(Arrived, batch.arrivals, batch.events))
            at = found[-1].arrival if found else at
            caught_up = caught_up or at >= goal
            fresh = [
                each
                for each in found
                if _place(each.event.link) > known.get(each.event.stream, _NOWHERE)
                and (follow or each.arrival <= goal)
            ]
            for each in found:
                place = _place(each.event.link)
                seen[each.event.stream] = max(place, seen.get(each.event.stream, _NOWHERE))
            if fresh:
                yield fresh
            elif not found and not follow:
                return
            elif not found:
                await self._wait()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(POLL_S):
                await self._news.wait()
        except TimeoutError:
            return

    async def _begin(self, *, patient: bool = False) -> tuple[Attached, tuple[StreamHead, ...]]:
        """Attach, and read every stream's head."""
        attach = Attach(self.session, self._name, EVERYTHING, ORIGIN, 0)
        while True:
            answer = await self._ask(attach, patient=patient)
            if isinstance(answer, Reset) and answer.reason == "AUTH":
                raise Forbidden(
                    f"the bus does not let {self._name} read", hint="is this the mesh's own bus?"
                )
            if isinstance(answer, Attached):
                with contextlib.suppress(_Forgotten):
                    return answer, (await self._get(0, 0, patient=patient)).heads

    async def _get(self, after: int, rows_max: int, *, patient: bool) -> Batch:
        self._req += 1
        get = Get(self.session, self._req, EVERYTHING, Position(0, after), rows_max, BYTES_MAX)
        answer = await self._ask(get, patient=patient)
        if isinstance(answer, Batch):
            return answer
        raise _Forgotten

    async def _ask(self, frame: Attach | Get, *, patient: bool) -> ToConsumer:
        """Send until there is an answer. Raises: BusUnavailable, unless patient."""
        self._answer = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(None if patient else REACH_S):
                while True:
                    sent = self._send(frame)
                    wait_s = REPLY_S if sent else RESEND_S
                    done, _ = await asyncio.wait({self._answer}, timeout=wait_s)
                    if done:
                        return self._answer.result()
        except TimeoutError:
            raise BusUnavailable(
                f"the bus has not answered for {REACH_S:.0f} s", hint="mesh ps"
            ) from None


_NOWHERE = Position(0, 0)


def _place(link: Link) -> Position:
    return Position(link.epoch, link.seq)


class _Forgotten(Exception):
    """The bus, started anew, does not know this conversation."""
