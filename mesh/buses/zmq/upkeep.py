"""What the broker knows beside the events: who follows, how full the log is, and what may go (R11).

Nothing is ever dropped to make room: an event goes when it is old *and* everybody required has it.
What does not fit is refused, and waits in its producer's outbox.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from mesh import clock, telemetry
from mesh.buses.contract import Follower, Position
from mesh.buses.zmq.log import LOG_BYTES_MAX, Log, Seen
from mesh.buses.zmq.protocol.retention import passed

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
        """Everybody who follows this stream. Whoever has left the configuration holds up nothing."""
        found = self._known.get(stream, {}).values()
        return tuple(
            Follower(each.name, each.cursor, each.known_epoch, each.seen_ms, self._needs(each.name))
            for each in found
        )

    def _needs(self, consumer: str) -> bool:
        return self._keys is None or self._keys.knows(consumer)

    def saw(self, stream: str, consumer: str, cursor: Position, known_epoch: int) -> Seen:
        """A consumer has said how far it is."""
        now_ms = clock.now_ms()
        who = Follower(consumer, cursor, known_epoch, now_ms, self._needs(consumer))
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
