"""What the broker knows beside the events: who follows, how full the log is, and what may go (R11).

Nothing is ever dropped to make room: an event goes when it is old *and* everybody required has it.
What does not fit is refused, and waits in its producer's outbox.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from mesh import clock, telemetry
from mesh.buses.contract import Follower, Position, StreamHead
from mesh.buses.zmq.log import LOG_BYTES_MAX, Log, Seen
from mesh.buses.zmq.protocol.lineage import newest
from mesh.buses.zmq.protocol.retention import passed
from mesh.codec import replace

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mesh.buses.zmq.keys import Keys
    from mesh.buses.zmq.protocol.stream import Stream

DAY_MS = 24 * 3600 * 1000

ALARM = 0.8
"""From this share of its bytes on the log says that it fills up."""

TRIM_EVERY_S = 60.0
TRIM_AGAIN_S = 0.5
"""While there is more to remove than one commit takes; a day's events are gone in minutes."""

_log = telemetry.logger("bus")


class Limits(Struct, frozen=True):
    """How long events are kept and how much of them. `retention_ms` counts from when they were told."""

    retention_ms: int = 7 * DAY_MS
    bytes_max: int = LOG_BYTES_MAX
    trim_every_s: float = TRIM_EVERY_S


class Upkeep:
    """Followers, fill and retention of one log."""

    def __init__(self, log: Log, keys: Keys | None, limits: Limits) -> None:
        """What the log remembers is known from the start."""
        self._log = log
        self._keys = keys
        self._limits = limits
        self._known: dict[str, dict[str, Follower]] = {}
        self._alarmed = False
        self.refusing = False
        """Events were refused for want of space, and none was taken since."""
        for each in log.followers():
            self._known.setdefault(each.stream, {})[each.who.name] = each.who

    def followers(self, stream: str) -> tuple[Follower, ...]:
        """Everybody who follows this stream, and whether it still needs it."""
        found = self._known.get(stream, {}).values()
        return tuple(replace(each, required=self._needs(each)) for each in found)

    def heads(self, streams: Iterable[Stream]) -> tuple[StreamHead, ...]:
        """Every stream that a producer has announced, with who follows it."""
        known = (each for each in streams if each.epochs)
        return tuple(
            StreamHead(
                *(each.name, each.head, each.tail_seq, newest(each.epochs)),
                self.followers(each.name),
            )
            for each in known
        )

    def _needs(self, consumer: Follower) -> bool:
        """Whoever has left the configuration needs nothing.

        Nor does who reads other streams and has not asked for this one for as long as events are
        kept: it listens to it no more.
        """
        if self._keys is not None and not self._keys.knows(consumer.name):
            return False
        since_ms = clock.now_ms() - self._limits.retention_ms
        if consumer.seen_ms >= since_ms:
            return True
        others = (each.get(consumer.name) for each in self._known.values())
        return not any(other is not None and other.seen_ms >= since_ms for other in others)

    def heard(self, stream: str, consumer: str) -> None:
        """A consumer has asked for this stream: it is there, wherever it stands."""
        known = self._known.get(stream, {})
        if consumer in known:
            known[consumer] = replace(known[consumer], seen_ms=clock.now_ms())

    def saw(self, stream: str, consumer: str, cursor: Position, known_epoch: int) -> Seen:
        """A consumer has said how far it is."""
        now_ms = clock.now_ms()
        who = Follower(consumer, cursor, known_epoch, now_ms, required=True)
        self._known.setdefault(stream, {})[consumer] = who
        return Seen(stream, who)

    def outlived(self, stream: Stream) -> int:
        """Up to which event nobody needs this stream any more; below its tail if there is none."""
        last = min(passed(stream, self.followers(stream.name)), stream.head.seq - 1)
        if last < stream.tail_seq:
            return 0
        before_ms = clock.now_ms() - self._limits.retention_ms
        return self._log.outlived(stream.name, stream.tail_seq, last, before_ms)

    def next_trim_s(self, *, trimmed: bool) -> float:
        """When to look again."""
        return (
            min(TRIM_AGAIN_S, self._limits.trim_every_s) if trimmed else self._limits.trim_every_s
        )

    def complaints(self, streams: Iterable[Stream]) -> list[str]:
        """What keeps the bus from taking events, now or soon, in words; logs when it begins."""
        found = [each.quarantined for each in streams if each.quarantined]
        share = self._log.used_bytes / self._log.bytes_max
        if self.refusing:
            found.append("no event is taken: the log is full, producers keep theirs")
        elif share >= ALARM:
            found.append(f"the log holds {share:.0%} of its {self._log.bytes_max} bytes")
        alarmed = self.refusing or share >= ALARM
        if alarmed and not self._alarmed:
            _log.error("%s; see who lags: mesh events lag", found[-1])
        self._alarmed = alarmed
        return found
