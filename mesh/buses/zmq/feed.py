"""How news is cut for the feed: what a subscriber may miss should be small."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh.buses.zmq.committer import EVENT_OVERHEAD_BYTES, weight

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mesh.buses.contract import Event, Link

FEED_BYTES_MAX = 64 * 1024
"""Events in one message of the feed; a larger event is only announced there, and fetched."""


def portions(events: tuple[Event, ...]) -> Iterator[tuple[Link, tuple[Event, ...]]]:
    """Where each run ends, and the events to show with it; none with a single larger one."""
    for run in _runs(events):
        fits = len(run) > 1 or weight(run) <= FEED_BYTES_MAX
        yield run[-1].link, run if fits else ()


def _runs(events: tuple[Event, ...]) -> Iterator[tuple[Event, ...]]:
    """Runs of at most FEED_BYTES_MAX, or of one event."""
    start, held = 0, 0
    for index, event in enumerate(events):
        own = len(event.body) + len(event.trace) + EVENT_OVERHEAD_BYTES
        if index > start and held + own > FEED_BYTES_MAX:
            yield events[start:index]
            start, held = index, 0
        held += own
    yield events[start:]
