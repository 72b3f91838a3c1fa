"""Faults on purpose: kept with a deadline, so that they end although nobody ends them.

Kills and pauses are done from here, to the project's own programs alone, by the handle that the
supervisor has of them. What happens inside a program is its own to do, with a deadline of its own;
here it is only known and shown. Such a fault ends with the process that it was inflicted on.
"""

from __future__ import annotations

import asyncio
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mesh import clock, codec
from mesh.errors import Conflict, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from mesh.orchestrator.contract import Fault, ProgramStatus
    from mesh.orchestrator.runner import Runner

FOR_S_MAX = 3600.0
"""Nobody who breaks something for longer than an hour still remembers it."""

KILLS_PER_S_MAX = 10.0
"""A program that is killed more often than it can start shows nothing any more."""

FAULTS_MAX = 64
"""At once: each is a timer and a line of `ps`."""


@dataclass(eq=False)
class _Kept:
    """A fault under way: on which process, until when, and the timer that ends or repeats it."""

    fault: Fault
    pid: int
    until_s: float
    draw: Callable[[], float]
    timers: list[asyncio.TimerHandle] = field(default_factory=list)


class Faults:
    """Everything that is broken on purpose at the moment."""

    def __init__(self, pid: Callable[[str], int | None], send: Callable[[str, int], None]) -> None:
        """Break nothing yet.

        Args:
            pid: of a program's process, None while it has none.
            send: a signal to a program's whole group.
        """
        self._pid = pid
        self._send = send
        self._kept: list[_Kept] = []

    @classmethod
    def over(cls, runners: Mapping[str, Runner]) -> Faults:
        """Faults of these programs.

        They are signalled as an accident would: nothing is noted, so what follows is judged like
        any other end.
        """

        def pid(name: str) -> int | None:
            child = runners[name].child
            return child.pid if child is not None else None

        def send(name: str, number: int) -> None:
            child = runners[name].child
            if child is not None:
                child.signal(number, patient=False)

        return cls(pid, send)

    def begin(self, fault: Fault) -> None:
        """Break it; it ends by itself. A fault of the same kind takes the place of an older one.

        Raises: InvalidInput (out of bounds); Conflict (no process to break, FAULTS_MAX).
        """
        _check(fault)
        pid = self._pid(fault.target)
        if pid is None:
            raise Conflict(
                f"{fault.target} has no process that could be broken",
                hint="mesh ps",
                code="no-process",
            )
        for kept in self._living():
            if (kept.fault.kind, kept.fault.target) == (fault.kind, fault.target):
                self._finish(kept)
        if len(self._kept) >= FAULTS_MAX:
            raise Conflict(f"{FAULTS_MAX} faults are under way already", hint="mesh chaos clear")
        until_s = clock.monotonic_s() + fault.for_s
        kept = _Kept(fault, pid, until_s, clock.seeded(fault.seed))
        self._kept.append(kept)
        if fault.kind == "pause":
            self._send(fault.target, signal.SIGSTOP)
        elif fault.kind == "kill":
            self._send(fault.target, signal.SIGKILL)
            self._kill_later(kept)
        self._later(kept, fault.for_s, self._finish)

    def of(self, name: str) -> tuple[Fault, ...]:
        """What is being done to one program."""
        now_s = clock.monotonic_s()
        return tuple(
            codec.replace(kept.fault, left_s=round(max(0.0, kept.until_s - now_s), 1))
            for kept in self._living()
            if kept.fault.target == name
        )

    def shown(self, rows: Iterable[ProgramStatus]) -> tuple[ProgramStatus, ...]:
        """Each program's row with what is being done to it."""
        return tuple(codec.replace(row, faults=self.of(row.name)) for row in rows)

    def end(self, names: Collection[str] = ()) -> tuple[Fault, ...]:
        """End the faults of these programs now, of all when none is named; which they were."""
        ended = [kept for kept in self._living() if not names or kept.fault.target in names]
        for kept in ended:
            self._finish(kept)
        return tuple(kept.fault for kept in ended)

    def _living(self) -> list[_Kept]:
        """Those whose process still is the one they were inflicted on; kills go on beyond it."""
        for kept in [*self._kept]:
            if kept.fault.kind != "kill" and self._pid(kept.fault.target) != kept.pid:
                self._finish(kept)
        return [*self._kept]

    def _finish(self, kept: _Kept) -> None:
        if kept not in self._kept:
            return
        self._kept.remove(kept)
        for timer in kept.timers:
            timer.cancel()
        if kept.fault.kind == "pause" and self._pid(kept.fault.target) == kept.pid:
            self._send(kept.fault.target, signal.SIGCONT)

    def _kill_later(self, kept: _Kept) -> None:
        """The next kill after a drawn while: half to one and a half of the mean."""
        if kept.fault.for_s and kept.fault.rate:
            self._later(kept, (0.5 + kept.draw()) / kept.fault.rate, self._kill)

    def _kill(self, kept: _Kept) -> None:
        if kept not in self._kept:
            return
        self._send(kept.fault.target, signal.SIGKILL)
        self._kill_later(kept)

    def _later(self, kept: _Kept, after_s: float, what: Callable[[_Kept], None]) -> None:
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        kept.timers = [timer for timer in kept.timers if timer.when() > now_s]
        kept.timers.append(loop.call_later(after_s, what, kept))


def _check(fault: Fault) -> None:
    if not 0 <= fault.for_s <= FOR_S_MAX:
        raise InvalidInput(f"a fault lasts at most {FOR_S_MAX:g} s", pointer="/for_s")
    most = KILLS_PER_S_MAX if fault.kind == "kill" else 1.0
    if not 0 <= fault.rate <= most:
        raise InvalidInput(f"the rate of {fault.kind} is 0 to {most:g}", pointer="/rate")
