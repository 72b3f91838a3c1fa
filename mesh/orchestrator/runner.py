"""One program brought to life: carries out what `restart.decide` says and tells it what happens.

It decides nothing. Everything that happens to the program becomes an event here, in one place
and in order, and everything that is done to it is an action of the decision that follows.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

from mesh import clock
from mesh.errors import MeshError, PortTaken, Unavailable
from mesh.orchestrator import logs, probe, token_file, walls
from mesh.orchestrator.contract import UP, LastExit, LastProbe, Lease, ProgramStatus, Transition
from mesh.orchestrator.figures import Told
from mesh.orchestrator.life import (
    Beat,
    Excuse,
    Exited,
    Extend,
    Life,
    Probed,
    Ready,
    Said,
    Send,
    Spawn,
    Tick,
    Unstartable,
    describe,
)
from mesh.orchestrator.restart import decide
from mesh.orchestrator.spawn import Errand, spawn

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from mesh.config import Healthcheck
    from mesh.orchestrator.child import Child
    from mesh.orchestrator.contract import Program
    from mesh.orchestrator.launcher import Launcher
    from mesh.orchestrator.life import Event
    from mesh.orchestrator.ports import Listener
    from mesh.orchestrator.starter import Order

EVIDENCE_LINES_MAX = 20
"""Last log lines told with a failure: a traceback fits, a screen holds them."""

EXTEND_MAX_S = 3600.0
"""A program may ask for no more at once."""

_CPU_WINDOW_S = 0.5
"""CPU is a share of at least this long, however often the status is asked for."""


class Runner:
    """A program, its life, and its process while it has one.

    Args:
        environment: everything the program finds in its own, but for its descriptors' numbers.
        mint: makes a token for (subject, audience).
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
        mint: Callable[[str, str], str],
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
        self._mint = mint
        self._renewal: asyncio.TimerHandle | None = None
        self._on_change = on_change
        self.last_exit: LastExit | None = None
        self._question = probe.question(program)
        self._probed: tuple[probe.Answer, float] | None = None
        self._errands: set[Errand] = set()
        self._new_lines = logs.Follower({})
        self._timer: asyncio.TimerHandle | None = None
        self._armed_s: float | None = None
        self._work: set[asyncio.Task[None]] = set()
        self._log_offset = 0
        self._refusal = ""
        self._lag: int | None = None
        self._told = Told()
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
        row = ProgramStatus(
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
            sandbox=walls.shown(self.program) if child is not None else None,
            cause=self.life.cause,
        )
        return self._told.shown(row, now_s)

    def pids(self) -> set[int]:
        """Of its process and of the commands that run beside it."""
        running = {errand.pid for errand in self._errands if errand.pid is not None}
        return running | {self.child.pid} if self.child is not None else running

    def last_probe(self) -> LastProbe | None:
        """What its health question brought last, in this life."""
        if self._question is None or self._probed is None:
            return None
        answer, at_s = self._probed
        return LastProbe(
            question=" ".join(probe.words(self._question)),
            ok=answer.ok,
            answer=answer.text,
            ago_s=round(clock.monotonic_s() - at_s, 3),
            misses=self.life.misses,
        )

    def lease(self) -> Lease:
        """What it takes to be this program."""
        order = self._order()
        return Lease(
            entry=order["entry"],
            args=tuple(order["args"]),
            command=self.program.command,
            environment=order["environment"],
            working_dir=order["working_dir"],
        )

    def evidence(self) -> tuple[str, ...]:
        """The last lines it logged since its latest start."""
        return logs.last_lines(self.log, EVIDENCE_LINES_MAX, since=self._log_offset)

    def close(self) -> None:
        """Let go of the process and of every timer; nothing is signalled."""
        for task in self._work:
            task.cancel()
        for timer in (self._timer, self._renewal):
            if timer is not None:
                timer.cancel()
        for errand in self._errands:
            errand.close()
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
        """A timer may be early by its resolution: forget it first, so that it is set again.

        What was said by then comes first: a loop that was stopped meets its timers before its pipes.
        """
        self._armed_s = None
        if self.child is not None:
            self.child.hear()
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
        self._new_lines = logs.Follower({self.program.name: self.log})
        self._cpu, self._cpu_percent = (0.0, 0.0), None
        self._probed = None
        try:
            self._make_folders()
            self._renew_tokens()
            self.child = await self._made()
        except (MeshError, OSError) as error:
            again = isinstance(error, OSError | Unavailable | PortTaken)
            self.feed(Unstartable(str(error), again=again))
            return
        if self.life.state == "starting":
            self.child.go()
        else:
            self.child.abandon()

    def _make_folders(self) -> None:
        """Its own, which it could not make inside its walls. Raises: OSError."""
        for folder in self.program.writes:
            Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)

    def _renew_tokens(self) -> None:
        """Write them now, and again before they expire for as long as it runs. Raises: OSError."""
        if self._renewal is not None:
            self._renewal.cancel()
        if self.program.tokens is None:
            return
        path = Path(self.program.tokens)
        token_file.write(path, self.program.name, self.program.audiences, self._mint)
        loop = asyncio.get_running_loop()
        self._renewal = loop.call_later(token_file.RENEW_S, self._renew_tokens_again)

    def _renew_tokens_again(self) -> None:
        if self.life.alive:
            try:
                self._renew_tokens()
            except OSError as error:
                self.feed(Said(f"its tokens cannot be renewed: {error.strerror}"))

    async def _made(self) -> Child:
        """A process that waits at its door, with all its descriptors."""
        listen = self.listener.open() if self.listener is not None else None
        log = logs.append_to(self.log)
        try:
            return await spawn(
                self._launcher,
                self._order(),
                log,
                listen,
                on_running=self._running,
                on_word=self.said,
                on_exit=self._exited,
            )
        finally:
            os.close(log)

    def _order(self, command: Sequence[str] | None = None) -> Order:
        """For the program, or for a command beside it."""
        program = self.program
        argv = command or program.command
        return {
            "name": program.name,
            "entry": None if command else program.entry,
            "args": [*program.args],
            "command": [*argv] if argv is not None else None,
            "environment": self._environment
            | ({"MESH_LAST_EXIT": self.life.died} if self.life.died else {}),
            "working_dir": str(Path(program.working_dir).absolute()),
            "walls": walls.planned(program, self._environment, self.log),
            "descriptors": [],
        }

    def _running(self, refusal: str) -> None:
        self._refusal = refusal
        if refusal:
            return
        if self._question is not None:
            self._begin(self._probe(self._question))
        elif not probe.tells(self.program):
            self.feed(Ready())

    async def _probe(self, asked: Healthcheck) -> None:
        """Ask until this process has ended, or only until it is ready, as the question goes."""
        child, lasting = self.child, probe.lasts(self.program)
        port = self.listener.number if self.listener is not None else None
        reach = probe.Reach(port, self._run, self._lines)
        while self.child is child and self.life.state in {"starting", *UP}:
            answer = await probe.ask(asked, reach)
            if self.child is not child:
                return
            self._probed = (answer, clock.monotonic_s())
            self.feed(Probed(answer.ok, answer.text, answer.silent))
            starting = self.life.state == "starting"
            if not starting and not lasting:
                return
            await asyncio.sleep(probe.again_s(asked, starting=starting))

    async def _run(self, command: Sequence[str]) -> tuple[int, str]:
        errand = Errand(self._launcher, self._order(command))
        self._errands = {running for running in self._errands if running.pid is not None} | {errand}
        return await errand.run()

    def _lines(self) -> list[str]:
        return [line.text for line in self._new_lines.read()]

    def said(self, word: str) -> None:
        """What notify.py lets a program say."""
        name, _, value = word.partition("=")
        match name:
            case "READY" if probe.heeds(self.program):
                self.feed(Ready())
            case "WATCHDOG":
                self.feed(Beat())
            case "EXTEND_TIMEOUT_USEC" if value.isdecimal():
                self.feed(Extend(min(float(value) / 1_000_000, EXTEND_MAX_S)))
            case "EXCUSE":
                self.feed(Excuse(wanted=value == "1"))
            case "LAG" if value.isdecimal():
                self._lag = int(value)
            case "FIGURES":
                self._told.take(value, clock.monotonic_s())
            case "STATUS":
                self.feed(Said(value))
            case "STOPPING" if self.life.desired == "down" and self.listener is not None:
                self.listener.refuse()

    def _exited(self, status: int) -> None:
        assert self.child is not None
        self._launcher.forget(self.child.pid)
        self.last_exit = LastExit(
            how=self._refusal or describe(status),
            at=clock.iso(clock.now_ms()),
            lasted_s=round(clock.monotonic_s() - self.child.started_s, 3),
        )
        self.child = None
        self._told.forget()
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
