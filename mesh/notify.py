"""What a program tells its supervisor: ready, alive, stopping.

The words are sd_notify's (`READY=1`, `WATCHDOG=1`, `STOPPING=1`, `STATUS=…`), one a line, written to
the pipe whose descriptor is in `MESH_NOTIFY_FD`. Without a supervisor every word is a no-op, so
a service runs the same by hand.
"""

from __future__ import annotations

import contextlib
import os

FD_VARIABLE = "MESH_NOTIFY_FD"

BEAT_S = 1.0
"""A program that has said READY=1 says WATCHDOG=1 this often, from its event loop."""


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


def beat() -> None:
    """The event loop still turns."""
    tell("WATCHDOG=1")


def stopping() -> None:
    """No new work is taken; what is in hand is being finished."""
    tell("STOPPING=1")


def status(text: str) -> None:
    """One line on what is being waited for or what degrades the service; "" when all is well."""
    tell("STATUS=" + text.replace("\n", " "))
