"""One program brought to life: carries out what `restart.decide` says and tells it what happens.

It decides nothing. Everything that happens to the program becomes an event here, in one place
and in order, and everything that is done to it is an action of the decision that follows.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from mesh import clock
from mesh.errors import MeshError, Unavailable
from mesh.orchestrator import logs, probe
from mesh.orchestrator.child import Child
from mesh.orchestrator.contract import ProgramStatus, Transition
from mesh.orchestrator.launcher import StarterLost
from mesh.orchestrator.life import (
    Beat,
    Excuse,
    Exited,
    Life,
    Ready,
    Said,
    Send,
    Spawn,
    Tick,
    Unstartable,
)
from mesh.orchestrator.restart import decide

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from mesh.config import Healthcheck
    from mesh.orchestrator.contract import Program
    from mesh.orchestrator.launcher import Launcher
    from mesh.orchestrator.life import Event
    from mesh.orchestrator.ports import Listener
    from mesh.orchestrator.starter import Order

EVIDENCE_LINES_MAX = 20
"""Last log lines told with a failure: a traceback fits, a screen holds them."""

STARTERS_MAX = 3
"""Starters that may die over one order before that counts against the program."""

_CPU_WINDOW_S = 0.5
"""CPU is a share of at least this long, however often the status is asked for."""


class Runner:
    """A program, its life, and its process while it has one.

    Args:
        environment: everything the program finds in its own, but for its descriptors' numbers.
        on_change: called with every change of state, after it.
    """

    def __init__(
        self,
        program: Program,
        *,
        listener: Listener | None,
        environment: dict[str, str],
        log: Path,
        launcher: Launcher,
        on_change: Callable[[Transition], None],
    ) -> None:
        """Nothing is started yet."""
        self.program = program
        self.listener = listener
        self.log = log
        self.life = Life(since_s=clock.monotonic_s())
        self.child: Child | None = None
        self._environment = environment
        self._launcher = launcher
        self._on_change = on_change
        self._question = probe.question(program)
        self._timer: asyncio.TimerHandle | None = None
        self._armed_s: float | None = None
        self._work: set[asyncio.Task[None]] = set()
        self._log_offset = 0
        self._refusal = ""
        self._lag: int | None = None
        self._cpu = (0.0, 0.0)
        self._cpu_percent: float | None = None

    def feed(self, event: Event) -> None:
        """Something happened: decide, and do what follows."""
        before = self.life
        chance = clock.uniform(0.0, 1.0)
        decision = decide(self.program, before, event, clock.monotonic_s(), chance)
        self.life = decision.life
        self._arm()
        for action in decision.actions:
            match action:
                case Spawn():
                    self._begin(self._launch())
                case Send(number):
                    if self.child is not None:
                        self.child.signal(number, patient=self.life.state == "stopping")
        if self.life.state in {"stopped", "failed"} and self.listener is not None:
            self.listener.refuse()
        if self.life.state != before.state:
            self._on_change(self._transition(before))

    def status(self) -> ProgramStatus:
        """A row of `mesh ps`."""
        now_s = clock.monotonic_s()
        child, listener = self.child, self.listener
        usage = child.usage() if child is not None else None
        return ProgramStatus(
            name=self.program.name,
            state=self.life.state,
            pid=child.pid if child is not None else None,
            port=listener.number if listener is not None else None,
            url=listener.url if listener is not None else None,
            uptime_s=round(now_s - child.started_s, 3) if child is not None else None,
            restarts=self.life.restarts,
            cpu_percent=self._share(usage[0], now_s) if usage is not None else None,
            rss_bytes=usage[1] if usage is not None else None,
            lag=self._lag if child is not None else None,
            cause=self.life.cause,
        )

    def evidence(self) -> tuple[str, ...]:
        """The last lines it logged since its latest start."""
        return logs.last_lines(self.log, EVIDENCE_LINES_MAX, since=self._log_offset)

    def close(self) -> None:
        """Let go of the process and of every timer; nothing is signalled."""
        for task in self._work:
            task.cancel()
        if self._timer is not None:
            self._timer.cancel()
        if self.child is not None:
            self.child.close()

    # time

    def _arm(self) -> None:
        """Have the timer stand where this life wants its next tick."""
        wake_s = self.life.wake_s
        if wake_s == self._armed_s:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._armed_s = wake_s
        self._timer = (
            asyncio.get_running_loop().call_at(wake_s, self._tick) if wake_s is not None else None
        )

    def _tick(self) -> None:
        """A timer may be early by its resolution: forget it first, so that it is set again."""
        self._armed_s = None
        self.feed(Tick())

    # the process

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    async def _launch(self) -> None:
        """Have a process made, and let it go on unless it has become unwanted meanwhile."""
        self._refusal = ""
        self._lag = None
        self._log_offset = logs.size(self.log)
        self._cpu, self._cpu_percent = (0.0, 0.0), None
        try:
            self.child = await self._made_for_sure()
        except (MeshError, OSError) as error:
            self.feed(Unstartable(str(error), again=isinstance(error, OSError | Unavailable)))
            return
        if self.life.state == "starting":
            self.child.go()
        else:
            self.child.abandon()

    async def _made_for_sure(self) -> Child:
        """Whatever happens to starters: a new order each time, so that no old one is obeyed."""
        for _ in range(STARTERS_MAX - 1):
            with contextlib.suppress(StarterLost):
                return await self._made()
        return await self._made()

    async def _made(self) -> Child:
        """A process that waits at its door, with all its descriptors."""
        with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
            door, inner_door = socket.socketpair()
            ours.enter_context(door)
            theirs.enter_context(inner_door)
            door.settimeout(0)
            words, notify = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            ours.callback(os.close, words)
            theirs.callback(os.close, notify)
            log = logs.append_to(self.log)
            theirs.callback(os.close, log)
            descriptors = {"door": inner_door.fileno(), "notify": notify, "log": log}
            listen = self.listener.open() if self.listener is not None else None
            if listen is not None:
                descriptors["listen"] = listen
            order = self._order([*descriptors])
            pid, pidfd = await self._launcher.launch(order, [*descriptors.values()])
            ours.pop_all()
            return Child(
                pid,
                pidfd,
                door,
                words,
                on_running=self._running,
                on_word=self._said,
                on_exit=self._exited,
            )

    def _order(self, descriptors: list[str]) -> Order:
        program = self.program
        return {
            "name": program.name,
            "entry": program.entry,
            "args": [*program.args],
            "command": [*program.command] if program.command is not None else None,
            "environment": self._environment
            | ({"MESH_LAST_EXIT": self.life.died} if self.life.died else {}),
            "working_dir": str(Path(program.working_dir).absolute()),
            "sandbox": program.sandbox,
            "descriptors": descriptors,
        }

    def _running(self, refusal: str) -> None:
        self._refusal = refusal
        if refusal:
            return
        if self._question is not None:
            self._begin(self._ask(self._question))
        elif self.program.command is not None:
            self.feed(Ready())

    async def _ask(self, question: Healthcheck) -> None:
        child = self.child
        assert self.listener is not None
        await probe.answered(question, self.listener.number)
        if self.child is child:
            self.feed(Ready())

    def _said(self, word: str) -> None:
        """What notify.py lets a program say."""
        name, _, value = word.partition("=")
        match name:
            case "READY" if self._question is None:
                self.feed(Ready())
            case "WATCHDOG":
                self.feed(Beat())
            case "EXCUSE":
                self.feed(Excuse(wanted=value == "1"))
            case "LAG" if value.isdecimal():
                self._lag = int(value)
            case "STATUS":
                self.feed(Said(value))
            case "STOPPING" if self.life.desired == "down" and self.listener is not None:
                self.listener.refuse()

    def _exited(self, status: int) -> None:
        assert self.child is not None
        self._launcher.forget(self.child.pid)
        self.child = None
        for task in self._work:
            task.cancel()
        self.feed(Unstartable(self._refusal) if self._refusal else Exited(status))

    # what is told

    def _share(self, cpu_s: float, now_s: float) -> float | None:
        """CPU per cent since the reading before, which is at least _CPU_WINDOW_S old."""
        at_s, then_s = self._cpu
        if now_s - at_s >= _CPU_WINDOW_S:
            if at_s:
                self._cpu_percent = round(100 * (cpu_s - then_s) / (now_s - at_s), 1)
            self._cpu = (now_s, cpu_s)
        return self._cpu_percent

    def _transition(self, before: Life) -> Transition:
        life = self.life
        ended_badly = life.state in {"failed", "backoff"}
        return Transition(
            name=self.program.name,
            old=before.state,
            new=life.state,
            cause=life.cause,
            at_s=life.since_s,
            restarts=life.restarts,
            pid=self.child.pid if self.child is not None else None,
            evidence=self.evidence() if ended_badly else (),
        )
