"""How long the machine itself stood still: a slow answer counts only by what is left of it.

A thread sleeps, writes and syncs a few bytes where the databases lie, again and again; what one
round takes beyond the usual is time in which nobody here could have answered faster.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pathlib import Path

ROUND_S = 0.1
USUAL_S = 0.15
"""A round with its sync on a machine that has time."""

KEPT = 600
"""Rounds remembered: a minute of them."""


class Machine:
    """Watches from a thread of its own, as long as it is entered."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "heartbeat"
        self._rounds: deque[tuple[float, float]] = deque(maxlen=KEPT)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="heartbeat")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def stood_still_s(self, begun_s: float, ended_s: float) -> float:
        """Seconds of that span, on the monotonic clock, that rounds took beyond the usual."""
        total = 0.0
        for begun, ended in [*self._rounds]:
            shared = min(ended, ended_s) - max(begun, begun_s)
            if shared > 0 and ended - begun > USUAL_S:
                total += shared
        return total

    def since_s(self, begun_s: float, ended_s: float | None = None) -> float:
        """Seconds of that span, until now if nothing else is said, in which the machine went on."""
        ended_s = time.monotonic() if ended_s is None else ended_s
        self.settle()
        return ended_s - begun_s - self.stood_still_s(begun_s, ended_s)

    def settle(self) -> None:
        """Wait until the round under way is over, so that it is known."""
        count = len(self._rounds)
        last = self._rounds[-1] if self._rounds else None
        while (
            self._thread.is_alive()
            and len(self._rounds) == count
            and (not self._rounds or self._rounds[-1] == last)
        ):
            time.sleep(ROUND_S / 4)

    def _watch(self) -> None:
        with self._file.open("wb", buffering=0) as file:
            while not self._end.is_set():
                begun_s = time.monotonic()
                time.sleep(ROUND_S)
                file.write(b".")
                os.fsync(file.fileno())
                self._rounds.append((begun_s, time.monotonic()))
