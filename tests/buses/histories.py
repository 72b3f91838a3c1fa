"""Events for tests of the rules: chains of real hashes, and histories that part ways."""

from __future__ import annotations

from mesh.buses.contract import NO_HASH, ORIGIN, Epoch, Event, Link, chain_hash

FIRST = Epoch(1, 0, NO_HASH, b"first")


def chain(
    count: int, *, after: Link = ORIGIN, epoch: int = 1, body: bytes = b"{}", stream: str = "order"
) -> tuple[Event, ...]:
    """`count` events that continue `after`; another `body` makes another history."""
    events: list[Event] = []
    for _ in range(count):
        seq = after.seq + 1
        rest = (seq.to_bytes(16, "big"), "thing.happened", "key", 1, b"{}", body)
        hash_ = chain_hash(after.hash, epoch, seq, *rest)
        events.append(Event(stream, epoch, seq, after.epoch, after.hash, hash_, *rest))
        after = events[-1].link
    return tuple(events)


def second(base: Link) -> Epoch:
    """A second epoch that replaces everything beyond `base`."""
    return Epoch(2, base.seq, base.hash, b"second")
