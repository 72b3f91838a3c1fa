"""What follows when a listener fails, as pure functions (R12).

An error that passes by itself (`Unavailable`) holds the stream at its event however long it lasts.
Any other is the event's own: it is tried ATTEMPTS_MAX times, then set aside (*parked*) so that the
stream goes on, or the stream stops there where the listener's row says `halt`.

*Outage rule*: when OUTAGE_EVENTS different events fail one after the other with no success between
them, it is not the events but the world (a disk, a bug that came with a deploy). Then nothing more is
parked: the event at hand is the probe, offered again until something succeeds.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from mesh import codec

ATTEMPTS_MAX = 5
"""Tries of an event whose error will not pass, deaths of the process among them."""

RETRY_S = (0.05, 30.0)
"""First and longest wait before a failed event is offered again; doubling, with jitter."""

DEGRADED_S = 60.0
"""An event that has failed for longer than this degrades the service."""

OUTAGE_EVENTS = 3
OUTAGE_S = 60.0
"""So many different events failing within this time, and it is not the events."""

_DOUBLINGS_MAX = 16

Verdict = Literal["again", "park", "halt"]


class Failing(Struct, frozen=True):
    """The event at which one stream stands. Times are monotonic seconds.

    Attributes:
        attempts: tries that ended in an error of its own.
        failures: tries that ended in any error, for the growing wait.
        alone: something else has succeeded meanwhile, so it is this event and not the world.
    """

    epoch: int
    seq: int
    since_s: float
    error: str
    attempts: int = 0
    failures: int = 0
    alone: bool = False


class Troubles(Struct, frozen=True):
    """What fails in one service.

    Attributes:
        failing: by stream.
        halted: stream → why it stopped; only a new start of the service moves it again.
        parked_s: when events were parked since the last success, the newest OUTAGE_EVENTS.
        outage: nothing is parked until something succeeds.
    """

    failing: dict[str, Failing] = {}
    halted: dict[str, str] = {}
    parked_s: tuple[float, ...] = ()
    outage: bool = False


class Failure(Struct, frozen=True):
    """One try that failed.

    Attributes:
        tries: how many of the kind that counts this makes at once; 0 for an error that passes.
    """

    stream: str
    epoch: int
    seq: int
    error: str
    tries: int
    halt: bool = False


def failed(troubles: Troubles, failure: Failure, now_s: float) -> tuple[Troubles, Verdict, float]:
    """What to do with the event now.

    Returns: the troubles then; `again` (after the seconds that are returned last), `park` or `halt`.
    """
    stream = failure.stream
    before = troubles.failing.get(stream)
    if before is None or (before.epoch, before.seq) != (failure.epoch, failure.seq):
        before = Failing(failure.epoch, failure.seq, now_s, failure.error)
    event = codec.replace(
        before,
        error=failure.error,
        attempts=before.attempts + failure.tries,
        failures=before.failures + 1,
    )
    others = [each for name, each in troubles.failing.items() if name != stream]
    outage = troubles.outage or _is_outage(troubles, others, event, now_s)
    troubles = codec.replace(troubles, failing={**troubles.failing, stream: event}, outage=outage)
    wait_s = min(RETRY_S[1], RETRY_S[0] * 2.0 ** min(event.failures - 1, _DOUBLINGS_MAX))
    if not failure.tries or event.attempts < ATTEMPTS_MAX:
        return troubles, "again", wait_s
    if outage and not event.alone:
        return troubles, "again", wait_s
    if failure.halt:
        why = f"{stream} is halted at event {event.seq}: {event.error}"
        return codec.replace(troubles, halted={**troubles.halted, stream: why}), "halt", RETRY_S[1]
    return troubles, "park", 0.0


def _is_outage(troubles: Troubles, others: list[Failing], event: Failing, now_s: float) -> bool:
    recent = sum(now_s - at_s < OUTAGE_S for at_s in troubles.parked_s)
    unsure = sum(bool(each.attempts) and not each.alone for each in others)
    return bool(event.attempts) and recent + unsure + 1 >= OUTAGE_EVENTS


def parked(troubles: Troubles, stream: str, now_s: float) -> Troubles:
    """The event at which the stream stood has been set aside."""
    left = {name: each for name, each in troubles.failing.items() if name != stream}
    times = (*troubles.parked_s, now_s)[-OUTAGE_EVENTS:]
    return codec.replace(troubles, failing=left, parked_s=times)


def succeeded(troubles: Troubles, stream: str) -> Troubles:
    """A listener of this stream has done its work: whatever else fails does so on its own."""
    left = {
        name: codec.replace(each, alone=True)
        for name, each in troubles.failing.items()
        if name != stream
    }
    return codec.replace(troubles, failing=left, parked_s=(), outage=False)


def complaints(troubles: Troubles, now_s: float) -> list[str]:
    """What degrades the service, in words."""
    lasting = [
        f"{name} has been retried at event {each.seq} for {now_s - each.since_s:.0f} s:"
        f" {each.error}"
        for name, each in troubles.failing.items()
        if now_s - each.since_s > DEGRADED_S and name not in troubles.halted
    ]
    return [*troubles.halted.values(), *lasting]


def state(troubles: Troubles, stream: str) -> str:
    """One stream in a word: `halted`, `retrying` or `live`."""
    if stream in troubles.halted:
        return "halted"
    return "retrying" if stream in troubles.failing else "live"
