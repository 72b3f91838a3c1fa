"""Waiting for a place: the rules of `resilience.admission` on an event loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from mesh import clock
from mesh.errors import DeadlineExceeded, Overloaded
from mesh.framework.shedding import DETAIL

if TYPE_CHECKING:
    from mesh.resilience.admission import Admission, Ticket

LEFT_MIN_S = 0.005
"""With less than this left of its deadline no work is begun: nothing is answered in less."""

WATCHED_SHARE = 4
"""The event loop's delay is looked at while more than one in so many places is taken."""


class Gate:
    """The door to one program's places."""

    def __init__(self, admission: Admission) -> None:
        """Nobody waits."""
        self.admission = admission
        self._watching = False

    async def enter(self, deadline_s: float) -> None:
        """Take one of the places; followed by one `leave`.

        Raises: Overloaded; DeadlineExceeded when too little is left to begin anything.
        """
        now_s = clock.monotonic_s()
        if deadline_s - now_s < LEFT_MIN_S:
            raise DeadlineExceeded("no time is left for this")
        found = self.admission.enter(now_s, deadline_s)
        if found is not True:
            if found is False:
                raise Overloaded(DETAIL)
            await self._wait(found, now_s)
        if not self._watching and self.admission.taken * WATCHED_SHARE > self.admission.places_max:
            self._watching = True
            asyncio.get_running_loop().call_soon(self._came_round, clock.monotonic_s())

    def leave(self) -> None:
        """Let the next one in."""
        self.admission.leave(clock.monotonic_s())

    async def _wait(self, ticket: Ticket, now_s: float) -> None:
        loop = asyncio.get_running_loop()
        place: asyncio.Future[bool] = loop.create_future()

        def settle(mine: bool) -> None:  # noqa: FBT001  (both callers say which)
            if not place.done():
                place.set_result(mine)

        def late() -> None:
            self.admission.give_up(ticket)
            settle(False)  # noqa: FBT003

        ticket.admit = lambda: settle(True)  # noqa: FBT003
        timer = loop.call_later(ticket.until_s - now_s, late)
        try:
            if not await place:
                raise Overloaded("no place became free in time")
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.leave()
            else:
                self.admission.give_up(ticket)
            raise
        finally:
            timer.cancel()

    def _came_round(self, since_s: float) -> None:
        self._watching = False
        now_s = clock.monotonic_s()
        self.admission.lagged(now_s, now_s - since_s)
