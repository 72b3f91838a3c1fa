"""What a program tells its supervisor: ready, alive, stopping.

The words are sd_notify's (`READY=1`, `WATCHDOG=1`, `STOPPING=1`, `STATUS=…`, `EXTEND_TIMEOUT_USEC=…`) and three of our own
(`EXCUSE=1` or `0`, `LAG=…`, `FIGURES=…`), one a line, written to the pipe whose descriptor is in
`MESH_NOTIFY_FD`. Without a supervisor every word is a no-op, so a service runs the same by hand.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

FD_VARIABLE = "MESH_NOTIFY_FD"

BEAT_S = 1.0
"""A program that has said READY=1 says WATCHDOG=1 this often, from its event loop."""


EXTEND_S = 4.5 * BEAT_S
"""A program that needs long to get ready asks each BEAT_S for so much more."""


def tell(word: str) -> None:
    """Write one line; never blocks and never raises, since a supervisor may be gone or frozen."""
    number = os.environ.get(FD_VARIABLE)
    if number is None:
        return
    with contextlib.suppress(OSError, ValueError):
        os.write(int(number), word.encode() + b"\n")


def ready() -> None:
    """This program answers now."""
    tell("READY=1")


def beat(counted: str = "") -> None:
    """The event loop still turns; with it what was counted lately, one line of JSON (`mesh.figures`)."""
    tell("WATCHDOG=1" + (f"\nFIGURES={counted}" if counted else ""))


@contextlib.asynccontextmanager
async def getting_on() -> AsyncIterator[None]:
    """As long as this lasts the program is not ready yet, however long that takes: it is given time."""

    async def ask() -> None:
        while True:
            tell(f"EXTEND_TIMEOUT_USEC={EXTEND_S * 1_000_000:.0f}")
            await asyncio.sleep(BEAT_S)

    asking = asyncio.create_task(ask())
    try:
        yield
    finally:
        asking.cancel()
        await asyncio.wait([asking])


def stopping() -> None:
    """No new work is taken; what is in hand is being finished."""
    tell("STOPPING=1")


def excuse(*, wanted: bool) -> None:
    """While wanted: if this program ends now, it counts that itself; start it again at once."""
    tell(f"EXCUSE={int(wanted)}")


def lag(events: int) -> None:
    """How many events it has still to apply."""
    tell(f"LAG={events}")


def status(text: str) -> None:
    """One line on what is being waited for or what degrades the service; "" when all is well."""
    tell("STATUS=" + text.replace("\n", " "))
