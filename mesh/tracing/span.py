"""One span as it is stored: an array of JSON a line, its attributes by place.

    ["4bf9…","00f0…","b7ad…","server","create",1798217412345678,5120,"",["POST","/orders",…]]

Times are microseconds, wall time since the epoch. Who recorded it is told by the file's folder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Mapping

Value = str | int | float | None

ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "call": ("service", "method", "target", "status"),
    "server": ("method", "route", "path", "status"),
    "client": ("peer", "method", "route", "attempt", "status"),
    "commit": ("queue_us", "flush_us", "group"),
    "outbox": ("event", "subject", "sequence"),
    "delivery": ("event", "stream", "sequence"),
    "handler": ("event", "stream", "sequence", "attempt"),
    "deferred": ("key", "attempt", "waited_us"),
}
"""The kinds of spans, and the names of their values in order.

`call`: the command line asks. `server`: a request is answered. `client`: one attempt of an ask.
`commit`: from handing a transaction over until it is durable; `group` shared that flush.
`outbox`: from the commit that told an event until the bus had it. `delivery`: from there until a
consumer began to apply it. `handler`: a listener with its commit. `deferred`: one try of deferred
work, which waited since it was due.
"""

WAITS = frozenset({"outbox", "delivery"})
"""Kinds in which nobody works: something waits."""

ASYNCHRONOUS = frozenset({"outbox", "delivery", "handler", "deferred"})
"""Kinds that nobody who asked waits for."""


class Span(Struct, array_like=True, gc=False):
    """A finished piece of work. `status` is empty when it went well, else what failed.

    Attributes:
        duration_us: UNFINISHED for one that is only known by what it left behind.
        values: named by ATTRIBUTES, from the left; what is missing is unknown.
        service: not stored.
    """

    trace_id: str
    span_id: str
    parent_id: str
    kind: str
    name: str
    start_us: int
    duration_us: int
    status: str = ""
    values: tuple[Value, ...] = ()
    service: str = ""

    @property
    def end_us(self) -> int:
        """When it ended; its start if it never did."""
        return self.start_us + max(0, self.duration_us)

    @property
    def attributes(self) -> dict[str, Value]:
        """What is known about it, by name."""
        names = ATTRIBUTES.get(self.kind, ())
        return {
            name: value
            for name, value in zip(names, self.values, strict=False)
            if value not in {None, ""}
        }


UNFINISHED = -1

UNFINISHED_STATUS, UNRECORDED_STATUS = "unfinished", "unrecorded"
"""Of stand-ins: still at work or killed at it; told by somebody who records nothing."""
