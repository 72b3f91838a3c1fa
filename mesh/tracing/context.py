"""W3C trace context: which story a piece of work belongs to, and whether it is told.

The sampler is the one that the standard variables name (`variables.py`), all by default.
"""

from __future__ import annotations

import re

from msgspec import Struct

from mesh import clock

_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")

_ODD = frozenset("13579bdf")
"""Last digits of flags that say: this is recorded."""

_RATIO_DIGITS = 14
"""Of the trace id's end: its last 56 bits decide (W3C trace context level 2)."""


class TraceContext(Struct, frozen=True, gc=False):
    """Which story this work belongs to (`trace_id`), which step it is, and if that is recorded."""

    trace_id: str
    span_id: str
    sampled: bool = True

    @property
    def traceparent(self) -> str:
        """The header's value."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"

    def child(self) -> TraceContext:
        """The next step of the same story."""
        return TraceContext(self.trace_id, clock.random_hex(8), self.sampled)


class Sampler:
    """Which stories are recorded: a share of those that begin here, and those we are told to.

    Attributes:
        ratio: of the stories that begin here, 0 to 1.
        parent: heed what the caller says, as `parentbased_…` does.
    """

    def __init__(self) -> None:
        """Everything, by default."""
        self.ratio = 1.0
        self.parent = True

    def root(self, trace_id: str) -> bool:
        """Whether a story with this id is recorded: the same everywhere, by its last digits."""
        if self.ratio >= 1:
            return True
        return bool(int(trace_id[-_RATIO_DIGITS:], 16) < self.ratio * (1 << 4 * _RATIO_DIGITS))


sampler = Sampler()


def new_trace() -> TraceContext:
    """The first step of a new story."""
    both = clock.random_hex(24)
    return TraceContext(both[:32], both[32:], sampler.root(both[:32]))


def parse_traceparent(header: str | None) -> TraceContext | None:
    """The context a `traceparent` names; None when it is absent or malformed."""
    match = _TRACEPARENT.fullmatch(header) if header else None
    if match is None:
        return None
    trace_id, span_id, flags = match.groups()
    if trace_id == "0" * 32 or span_id == "0" * 16:
        return None
    sampled = flags[1] in _ODD if sampler.parent else sampler.root(trace_id)
    return TraceContext(trace_id, span_id, sampled)
