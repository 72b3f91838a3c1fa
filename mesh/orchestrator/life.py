"""The life of one program, in words: what it has become, what can happen to it, what can be done.

Vocabulary only. What follows from what is decided in `restart.py`.
"""

from __future__ import annotations

import signal
from typing import Literal

from msgspec import Struct

from mesh.errors import InvalidInput
from mesh.orchestrator.contract import State


class Life(Struct, frozen=True, kw_only=True):
    """One program's life so far. Times are monotonic seconds.

    Attributes:
        wake_s: when a `Tick` is wanted next; None for never.
        alive: a process was asked for and has not ended; it may not have a pid yet.
        waiting: for what it depends on; only between being asked to start and the first start.
        fault: why it is being ended by us, if that counts as a failure.
        beats: it has said that its event loop turns, so silence will mean that it does not.
        complaint: what it says degrades it.
        doubt: what its health question was answered badly with, often enough to count.
        misses: bad answers in a row.
        killed: SIGKILL was sent because it did not stop in time.
        forgiven_until_s: an exit before this was asked for by a signal: no crash, no backoff.
        attempts: failures in a row, without a steady life between them.
        failures: when each failure of the last minute happened.
        exit: the last exit status; negative is a signal.
        died: how it ended last, if neither we nor anybody through us wished it to; else "".
        excused: it has said that it knows what it would die of.
        excuses: when each excused exit of the last minute happened.
    """

    desired: Literal["up", "down"] = "down"
    state: State = "stopped"
    cause: str = "not started"
    since_s: float = 0.0
    wake_s: float | None = None
    alive: bool = False
    waiting: bool = False
    fault: str | None = None
    beats: bool = False
    complaint: str = ""
    doubt: str = ""
    misses: int = 0
    killed: bool = False
    forgiven_until_s: float = 0.0
    ready_s: float | None = None
    attempts: int = 0
    failures: tuple[float, ...] = ()
    restarts: int = 0
    exit: int | None = None
    died: str = ""
    excused: bool = False
    excuses: tuple[float, ...] = ()


class Start(Struct, frozen=True):
    """Asked to run; forgets earlier failures."""


class Stop(Struct, frozen=True):
    """Asked to stop. `by_s`: SIGKILL at this time; its own grace from now if None."""

    by_s: float | None = None
    why: str = "asked"


class Restart(Struct, frozen=True):
    """Asked to stop and start again; forgets earlier failures."""

    why: str = "restart asked"


class Kill(Struct, frozen=True):
    """Asked to send a signal."""

    number: int


class Gate(Struct, frozen=True):
    """What it depends on: `open`, `wait`, or `blocked` by something that failed."""

    verdict: Literal["open", "wait", "blocked"]
    cause: str = ""


class Unstartable(Struct, frozen=True):
    """The process could not even be made. `again`: for want of something that may come back."""

    cause: str
    again: bool = False


class Ready(Struct, frozen=True):
    """It answers."""


class Probed(Struct, frozen=True):
    """Its health question was answered; `silent`: by nobody, in time."""

    ok: bool
    text: str = ""
    silent: bool = False


class Said(Struct, frozen=True):
    """Its status line: what degrades it, or what it waits for; "" when all is well."""

    text: str


class Beat(Struct, frozen=True):
    """Its event loop turns."""


class Extend(Struct, frozen=True):
    """It is not ready yet and gets on: it asks for this many seconds from now."""

    by_s: float


class Excuse(Struct, frozen=True):
    """It is, or is no more, at work that has ended it before: it counts such an exit itself."""

    wanted: bool


class Exited(Struct, frozen=True):
    """The whole group is gone. `status` is the leader's exit code, or minus its signal."""

    status: int


class Tick(Struct, frozen=True):
    """Time has passed; harmless when it comes early."""


Asked = Start | Stop | Restart | Kill
Told = Said | Beat | Extend | Excuse
Seen = Gate | Unstartable | Ready | Probed | Exited | Tick
Event = Asked | Told | Seen


class Spawn(Struct, frozen=True):
    """Start a process."""


class Send(Struct, frozen=True):
    """Send a signal to the whole group."""

    number: int


Action = Spawn | Send


class Decision(Struct, frozen=True):
    """The life that follows, and what to do, in order."""

    life: Life
    actions: tuple[Action, ...] = ()


def describe(status: int) -> str:
    """An exit status in words: `exit 1`, `signal 9`."""
    return f"signal {-status}" if status < 0 else f"exit {status}"


def signal_number(text: str) -> int:
    """The number of `TERM`, `SIGTERM` or `15`.

    Raises: InvalidInput (with the names there are) for anything else.
    """
    for one in signal.Signals:
        if text.upper() in {one.name, one.name.removeprefix("SIG"), str(one.value)}:
            return one.value
    names = ", ".join(one.name.removeprefix("SIG") for one in signal.Signals)
    raise InvalidInput(f"there is no signal {text!r}", hint=f"one of {names}")
