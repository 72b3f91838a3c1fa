"""Faults inside this program, on purpose: slow or failing answers, a bad way for the bus's events.

Each is held with a deadline of its own, so it ends although whoever began it is gone. Health pages
and the operator's own are never touched, and neither is anything that was accepted: an answer is
delayed or refused before its work begins, what the feed loses is fetched, and of what comes twice or
in another order only what extends the cursor is applied.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta, Struct

from mesh import clock, codec
from mesh.bus import Disorder, Disturbance
from mesh.errors import ServiceUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mesh.bus import Applied, Cursor, Epoch, Event, Inbox, Link

FOR_S_MAX = 3600.0
DELAY_MS_MAX = 60_000

CODE = "fault-injected"
"""The code of the problem by which a refusal shows that it was made on purpose."""

Answers = Literal["latency", "error"]
Events = Literal["drop", "dup", "reorder"]


class Inflict(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to break: the share `rate` of requests or of the feed's messages, for `for_s` seconds."""

    kind: Answers | Events
    for_s: Annotated[float, Meta(gt=0, le=FOR_S_MAX)]
    rate: Annotated[float, Meta(ge=0, le=1)] = 1.0
    seed: Annotated[int, Meta(ge=0)] = 0
    ms: Annotated[int, Meta(ge=0, le=DELAY_MS_MAX)] = 500


class _Held:
    def __init__(self, asked: Inflict) -> None:
        self.asked = asked
        self.until_s = clock.monotonic_s() + asked.for_s
        self._draw: Callable[[], float] = clock.seeded(asked.seed)

    def hits(self) -> bool:
        """Whether the next one is hit; drawn in order, so a seed always hits the same ones."""
        return clock.monotonic_s() < self.until_s and self._draw() < self.asked.rate


class Faults:
    """Those under way, at most one of each kind.

    Attributes:
        feed: the way of the bus's messages to this program.
        handed: the way of events from there to its listeners, where none is lost.
    """

    def __init__(self) -> None:
        """All is well."""
        self._held: dict[Answers, _Held] = {}
        self.feed = Disorder()
        self.handed = Disorder()

    def begin(self, asked: Inflict) -> None:
        """Break it, in the place of an older fault of the kind."""
        if asked.kind == "latency" or asked.kind == "error":  # noqa: PLR1714  for the types
            self._held[asked.kind] = _Held(asked)
            return
        way = Disturbance(asked.kind, asked.for_s, asked.rate, asked.seed)
        self.feed.begin(way)
        if asked.kind != "drop":
            self.handed.begin(codec.replace(way, seed=asked.seed + 1))

    def end(self) -> None:
        """Mend everything."""
        self._held.clear()
        self.feed.end()
        self.handed.end()

    def between(self, inbox: Inbox) -> Inbox:
        """That inbox, reached by a way on which events may come twice or out of order."""
        return _Disturbed(inbox, self.handed)

    @property
    def any(self) -> bool:
        """Whether a request may be hit at all."""
        return bool(self._held)

    async def before_work(self) -> None:
        """Hold up or refuse one request. Raises: ServiceUnavailable (code `fault-injected`)."""
        late, refused = self._hits("latency"), self._hits("error")
        if late is not None:
            await asyncio.sleep(late.ms / clock.MS_PER_S)
        if refused is not None:
            raise ServiceUnavailable("refused on purpose", code=CODE)

    def _hits(self, kind: Answers) -> Inflict | None:
        held = self._held.get(kind)
        if held is None or not held.hits():
            return None
        return held.asked


class _Disturbed:
    """An inbox as a bus would treat it that delivers at least once, in no order."""

    def __init__(self, inbox: Inbox, way: Disorder) -> None:
        self._inbox = inbox
        self._way = way

    async def cursor(self, stream: str) -> Cursor:
        return await self._inbox.cursor(stream)

    async def apply(self, stream: str, events: Sequence[Event]) -> Applied:
        if self._way.calm:
            return await self._inbox.apply(stream, events)
        return await self._inbox.apply(stream, self._way.all_through(events))

    async def notice(self, stream: str, epoch: Epoch, base: Link) -> Cursor:
        return await self._inbox.notice(stream, epoch, base)

    async def begin(self, stream: str, link: Link) -> Cursor:
        return await self._inbox.begin(stream, link)
