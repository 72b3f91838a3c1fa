"""What a program last counted about itself, and its requests of the last minute.

A program is believed within the bounds of `mesh.figures`; a message beyond them counts as none.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from mesh import codec
from mesh.errors import InvalidInput
from mesh.figures import HISTORY_S, Figures

if TYPE_CHECKING:
    from mesh.orchestrator.contract import ProgramStatus

FRESH_S = 3.0
"""Older figures are not shown: who has not told for three seconds is frozen or gone."""


class Told:
    """Of one program, over all its processes. Times are monotonic seconds."""

    def __init__(self) -> None:
        """Nothing was told yet."""
        self._latest: Figures | None = None
        self._seconds: deque[int] = deque(maxlen=HISTORY_S)
        self._told_s = 0.0

    def take(self, text: str, now_s: float) -> None:
        """One message, as the program has said it."""
        try:
            self._latest = codec.decode(text, Figures)
        except InvalidInput:
            return
        passed = round(now_s - self._told_s) if self._seconds else 1
        if passed:
            self._seconds.extend([0] * min(HISTORY_S, passed))
        self._seconds[-1] += self._latest.requests
        self._told_s = now_s

    def forget(self) -> None:
        """Its process has ended; what it did in the last minute is still history."""
        self._latest = None

    def shown(self, row: ProgramStatus, now_s: float) -> ProgramStatus:
        """The row with what is known now."""
        silent_s = now_s - self._told_s
        if self._seconds:
            since = [0] * min(HISTORY_S, int(silent_s - 0.5))
            row = codec.replace(row, history=(*self._seconds, *since)[-HISTORY_S:])
        if self._latest is None or silent_s > FRESH_S:
            return row
        known = dict(codec.members(self._latest))
        del known["requests"]
        return codec.replace(row, **known)
