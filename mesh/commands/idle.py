"""Whether a mesh has come to rest, judged from the counters of its services; pure.

Idle is two equal successive readings with nothing in flight, every outbox acknowledged, every
cursor at its producer's head and no work left but what has a business date.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mesh.commands.operations import items, members

Counters = dict[str, object]


@dataclass(frozen=True, slots=True)
class Reading:
    """Every service's counters at one time.

    `skipped` cannot be judged (they serve none, or do not run); `missing` should have answered.
    Both map a name to why.
    """

    counters: dict[str, Counters]
    skipped: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def busy(self) -> list[str]:
        """What is not at rest, in words; empty if the services have nothing left to do."""
        heads = {
            name: members(counters.get("outbox")).get("head")
            for name, counters in self.counters.items()
        }
        found = [f"{name} {why}" for name, why in self.missing.items()]
        for name, counters in self.counters.items():
            found += _own_work(name, counters)
            for row in items(counters.get("cursors")):
                stream, seq = str(members(row).get("stream")), members(row).get("seq")
                if stream in heads and heads[stream] != seq:
                    found.append(f"{name} has applied {stream} up to {seq} of {heads[stream]}")
        return found

    @property
    def parked(self) -> dict[str, object]:
        """Services that hold parked events, with their number: at rest, but not well."""
        return {
            name: counters["parked"]
            for name, counters in self.counters.items()
            if counters.get("parked")
        }

    @property
    def unjudged(self) -> list[str]:
        """Streams that are followed while their producer tells no counters."""
        followed = {
            str(members(row).get("stream"))
            for counters in self.counters.values()
            for row in items(counters.get("cursors"))
        }
        return sorted(followed - set(self.counters))


def _own_work(name: str, counters: Counters) -> list[str]:
    outbox = members(counters.get("outbox"))
    found = []
    if counters.get("in_flight"):
        found.append(f"{name} answers {counters['in_flight']} requests")
    if outbox.get("head") != outbox.get("acked"):
        found.append(f"{name} has told {outbox.get('head')}, the bus has {outbox.get('acked')}")
    if members(counters.get("deferred")).get("due"):
        found.append(f"{name} has {members(counters['deferred'])['due']} deferred actions due")
    if counters.get("unsettled"):
        found.append(f"{name} has {counters['unsettled']} unsettled")
    return found
