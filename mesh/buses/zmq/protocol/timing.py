"""The bounds that all roles of the protocol share, and the inputs and outputs they have in common."""

from __future__ import annotations

from msgspec import Struct

from mesh.buses.zmq.protocol.frames import ToBus

FRAME_BYTES_MAX = 1024 * 1024
"""Largest frame a socket takes (MAXMSGSIZE), and so the largest event."""

CREDIT_MSGS = 1024
"""Unacknowledged events a producer may have under way: four group commits."""

CREDIT_BYTES = 4 * 1024 * 1024
"""Their bytes; bounds what the bus holds for one producer before it is durable."""

BEAT_S = 0.25
"""The bus shows every head this often on its feed, for as long as there is news and QUIET_S after."""

QUIET_S = 3.0
CALM_BEAT_S = 1.0
"""Without news for so long it shows them this often: a lost word of news is made good by then."""

SILENT_S = 3.5
"""Without a heartbeat for so long the conversation starts anew: three calm ones are missing (R10)."""

POLL_S = 2.0
"""A consumer asks for what is new this often whatever the feed says (R10)."""

REPLY_S = 1.0
"""A HELLO, ATTACH or GET without an answer for so long is taken as lost."""

STALL_S = 1.0
"""Events unacknowledged for so long without progress are sent again (R3)."""

PING_S = 3.0
"""A producer that has heard nothing for so long asks."""

LOST_S = 10.0
"""A conversation silent for so long is over: three pings."""

PAUSE_S = 0.5
"""A producer waits so long after NOSPACE or BUSY."""

PACE_S = 0.002
"""While more and more is told, the outbox is read this often, unless its producer wants more company
for its events: what waited meanwhile is one message of the bus and one commit of each hearer. What is
told after a pause goes at once."""

TIMER_SLACK_S = 0.002
"""Loops count in milliseconds, and so may call early: who looks at the time then asks for this much
more, or would be called again and again until it has come."""

REPORT_S = 0.1
"""Cursors are reported, and refusals repeated, at most this often."""

BACKOFF_FIRST_S = 0.02
BACKOFF_MAX_S = 0.1
"""Between attempts to converse; the bus is on this machine, and is to be found within 0.3 s."""

RETRY_FIRST_S = 0.05
RETRY_MAX_S = 30.0
"""Between attempts when an inbox or an outbox fails (R12)."""

_DOUBLINGS_MAX = 16


def backoff_s(
    attempt: int, first_s: float = BACKOFF_FIRST_S, max_s: float = BACKOFF_MAX_S
) -> float:
    """Seconds before the attempt after this one, doubling; the caller adds jitter."""
    return min(max_s, first_s * 2.0 ** min(attempt, _DOUBLINGS_MAX))


class Begin(Struct, frozen=True):
    """Input: start a conversation under this random number (R1)."""

    session: int


class Tick(Struct, frozen=True):
    """Input: time has passed."""


class Grown(Struct, frozen=True):
    """Input: the outbox may hold more."""


class Unsent(Struct, frozen=True):
    """Input: a frame could not be sent: nobody is connected, or nobody reads."""


class Reborn(Struct, frozen=True):
    """Input: the bus has been started anew, so it knows nothing of this conversation."""


class Send(Struct, frozen=True):
    """Output: send this to the bus; if that is not possible now, say `Unsent`."""

    frame: ToBus


class Reconnect(Struct, frozen=True):
    """Output: this conversation is over; say `Begin` after so many seconds, with jitter."""

    after_s: float
