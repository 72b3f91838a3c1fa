"""What of a stream is needed no more (R11), as pure functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mesh.buses.contract import Follower
    from mesh.buses.zmq.protocol.stream import Stream


def passed(state: Stream, followers: Iterable[Follower]) -> int:
    """The last event number that every required consumer has behind it.

    A consumer that does not know of the newest epochs yet will step back to the lowest of their
    bases, and need everything beyond.
    """
    places = [state.head.seq]
    for each in followers:
        if each.required:
            unknown = (epoch.base for epoch in state.epochs if epoch.epoch > each.known_epoch)
            places.append(min((each.cursor.seq, *unknown)))
    return min(places)
