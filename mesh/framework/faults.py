"""Faults inside this program, on purpose: slow or failing answers, a deaf ear for the bus's feed.

Each is held with a deadline of its own, so it ends although whoever began it is gone. Health pages
and the operator's own are never touched, and neither is anything that was accepted: an answer is
delayed or refused before its work begins, and what the ear misses is fetched.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta, Struct

from mesh import clock
from mesh.errors import ServiceUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

FOR_S_MAX = 3600.0
DELAY_MS_MAX = 60_000

CODE = "fault-injected"
"""The code of the problem by which a refusal shows that it was made on purpose."""

Kind = Literal["latency", "error", "drop"]


class Inflict(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to break: the share `rate` of requests or of the feed's messages, for `for_s` seconds."""

    kind: Kind
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
    """Those under way, at most one of each kind."""

    def __init__(self) -> None:
        """All is well."""
        self._held: dict[Kind, _Held] = {}

    def begin(self, asked: Inflict) -> None:
        """Break it, in the place of an older fault of the kind."""
        self._held[asked.kind] = _Held(asked)

    def end(self) -> None:
        """Mend everything."""
        self._held.clear()

    def deaf(self) -> bool:
        """Whether the next message of the feed is to be missed."""
        return self._hits("drop") is not None

    async def before_work(self) -> None:
        """Hold up or refuse one request. Raises: ServiceUnavailable (code `fault-injected`)."""
        if not self._held:
            return
        late, refused = self._hits("latency"), self._hits("error")
        if late is not None:
            await asyncio.sleep(late.ms / clock.MS_PER_S)
        if refused is not None:
            raise ServiceUnavailable("refused on purpose", code=CODE)

    def _hits(self, kind: Kind) -> Inflict | None:
        held = self._held.get(kind)
        if held is None or not held.hits():
            return None
        return held.asked
