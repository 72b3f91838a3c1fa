"""Waiting for a place: the rules of `resilience.admission` on an event loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from mesh import clock
from mesh.errors import DeadlineExceeded, Overloaded
from mesh.framework.shedding import DETAIL

if TYPE_CHECKING:
    from collections.abc import Awaitable

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

    def enter(self, deadline_s: float) -> Awaitable[None] | None:
        """Take one of the places, or have something to wait for until one is ours. Then `leave`.

        Raises, here or there: Overloaded; DeadlineExceeded when too little is left to begin anything.
        """
        now_s, admission = clock.monotonic_s(), self.admission
        if deadline_s - now_s < LEFT_MIN_S:
            raise DeadlineExceeded("no time is left for this")
        found = admission.enter(now_s, deadline_s)
        if found is False:
            raise Overloaded(DETAIL)
        if not self._watching and admission.taken * WATCHED_SHARE > admission.places_max:
            self._watching = True
            asyncio.get_running_loop().call_soon(self._came_round, now_s)
        return None if found is True else self._wait(found, now_s)

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
