"""All programs together: gates between them, levels when stopping, and what is asked and told.

Lives on one event loop and is driven by events: a pidfd, a pipe, a timer, a request. It holds no
state of a program but its runner's life.
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import os
from typing import TYPE_CHECKING

from mesh import clock, codec
from mesh.errors import Conflict, MeshError, NotFound, ProgramFailed
from mesh.orchestrator import plan
from mesh.orchestrator.child import reap_strangers
from mesh.orchestrator.contract import UP, Outcome, Status, Stopped, SupervisorStatus
from mesh.orchestrator.explain import explanation
from mesh.orchestrator.faults import Faults
from mesh.orchestrator.life import Kill, Restart, Start, Stop, signal_number
from mesh.orchestrator.notify_socket import NotifySocket
from mesh.orchestrator.runner import Runner
from mesh.orchestrator.watchers import Watchers

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    from mesh.orchestrator.contract import Explanation, Fault, Lease, Program, Reason, Transition
    from mesh.orchestrator.launcher import Launcher
    from mesh.orchestrator.life import Life
    from mesh.orchestrator.logs import Journal
    from mesh.orchestrator.ports import Listener

LAST_CHANCE_S = 1.0
"""When the deadline for all has passed, the levels that were not reached yet get this, together."""

REAP_AGAIN_S = 0.05
"""Strangers are left alone while a program is being made, which takes milliseconds."""

RESTART_WAIT_S = 60.0
"""How long a restart is waited for; longer than five failures take to become `failed`."""

OPERATOR = "operator"


class Supervisor:
    """The orchestrator of `contract.py`, in this process. Make it on a running loop.

    Args:
        listeners: of the programs that have a port; bound by now where that is to be known.
        mint: makes a token for (subject, audience).
        on_change: told every transition, after it was logged.
        settle: ends what a holder of programs left half done; called before any is started. What it
            raises, a MeshError, keeps it from being started.
        linger: go on when no program is left that runs or will run.
    """

    def __init__(
        self,
        programs: Sequence[Program],
        *,
        project: str,
        logs_dir: Path,
        sockets: Path,
        listeners: Mapping[str, Listener],
        launcher: Launcher,
        journal: Journal,
        mint: Callable[[str, str], str],
        on_change: Callable[[Transition], None],
        settle: Callable[[], None] = lambda: None,
        linger: bool,
    ) -> None:
        """Nothing is started yet."""
        self.ended: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._project = project
        self._launcher = launcher
        self._journal = journal
        self._mint = mint
        self._on_change = on_change
        self._settle = settle
        self._linger = linger
        self._begun_s = clock.monotonic_s()
        self._changed = asyncio.Event()
        self._watchers = Watchers()
        self._ending: asyncio.Task[list[Stopped]] | None = None
        self._needs = {program.name: tuple(program.depends_on) for program in programs}
        self._asks = {program.name: program.peers for program in programs}
        urls = {name: listener.url for name, listener in listeners.items()}
        self._lent: dict[str, bool] = {}
        self._runners: dict[str, Runner] = {}
        self._notified: list[NotifySocket] = []
        for number, program in enumerate(programs):
            listener = listeners.get(program.name)
            environment = plan.environment(
                program, os.environ, urls, listener.number if listener else None
            )
            runner = self._runners[program.name] = Runner(
                program,
                listener=listener,
                environment=environment,
                log=logs_dir / f"{program.name}.log",
                launcher=launcher,
                mint=mint,
                on_change=self._changed_to,
            )
            if program.command is not None:
                heard = NotifySocket(sockets / f"notify-{number}", runner.said)
                self._notified.append(heard)
                environment |= heard.environment
        self._faults = Faults.over(self._runners)

    # asked

    def status(self) -> Status:
        """Every program, in configured order."""
        uptime_s = round(clock.monotonic_s() - self._begun_s, 3)
        return Status(
            project=self._project,
            supervisor=SupervisorStatus(pid=os.getpid(), uptime_s=uptime_s),
            services=self._faults.shown(runner.status() for runner in self._runners.values()),
        )

    def start(self, names: Sequence[str]) -> None:
        """Desire these to run, and what they depend on. Raises: NotFound, Conflict, as `settle`."""
        self._named(names)
        self._refuse(names)
        self._settle()
        self.begin(name for name in plan.closure(self._needs, names) if name not in self._lent)

    def begin(self, names: Iterable[str]) -> None:
        """Desire exactly these to run. Raises: NotFound."""
        for runner in self._named([*names]):
            runner.feed(Start())
        self._open_gates()

    async def stop(self, names: Sequence[str]) -> list[Stopped]:
        """Desire these stopped; returns when they are. Raises: NotFound."""
        self._lent |= dict.fromkeys(self._lent.keys() & set(names), False)
        return await self._stop([runner.program.name for runner in self._named(names)], None)

    async def restart(self, names: Sequence[str]) -> None:
        """Stop and start each; returns when all are up or have ended well.

        Raises: NotFound, Conflict; what `settle` does; ProgramFailed when one does not come back.
        """
        runners = self._named(names)
        self._refuse(names)
        self._settle()
        for runner in runners:
            runner.feed(Restart())
        self._open_gates()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RESTART_WAIT_S):
                await self._until(lambda: all(_settled(runner) for runner in runners))
        for runner in runners:
            if not _settled(runner) or runner.life.state == "failed":
                name = runner.program.name
                raise ProgramFailed(
                    f"{name} did not come back: {runner.life.state}, {runner.life.cause}",
                    hint=f"mesh logs {name}",
                    evidence=runner.evidence(),
                )

    def explain(self, name: str) -> Explanation:
        """Why one program is in its state. Raises: NotFound."""
        (runner,) = self._named([name])
        return explanation(runner, self._lives())

    def changed(self, names: Iterable[str], what: str) -> None:
        """Files of these programs have changed: restart those that are meant to run."""
        for runner in self._named([*names]):
            if runner.life.desired == "up":
                runner.feed(Restart(f"changed: {what}"))
        self._open_gates()

    async def lend(self, name: str, pid: int = 0) -> Lease:
        """Stop a program so that process `pid` may be it. Raises: NotFound, Conflict."""
        await self.hold([name], f"run by hand (pid {pid})")
        return self._runners[name].lease()

    async def hold(self, names: Sequence[str], why: str) -> list[str]:
        """Stop programs and keep them so until they are given back; who runs again then.

        Raises: NotFound, Conflict.
        """
        runners = self._named(names)
        self._refuse(names)
        held = {runner.program.name: runner.life.desired == "up" for runner in runners}
        self._lent |= held
        try:
            await self._stop([*held], None, why)
        except BaseException:
            self.give_back([*held])
            raise
        return [name for name, again in held.items() if again]

    def give_back(self, names: Iterable[str]) -> None:
        """Programs that were lent or held are nobody's any more: start those that were to run."""
        again = [name for name in dict.fromkeys(names) if self._lent.pop(name)]
        if not self.ending:
            with contextlib.suppress(MeshError):  # it is in the journal, and `start` tells it again
                self._settle()
                self.begin(again)

    def kill(self, names: Sequence[str], signal: str) -> None:
        """Send a signal to each group. Raises: NotFound, InvalidInput (no such signal)."""
        runners, number = self._named(names), signal_number(signal)
        for runner in runners:
            runner.feed(Kill(number))

    async def down(self, timeout_s: float | None) -> list[Stopped]:
        """Stop everything level by level under one deadline, then end.

        Cancellation: goes on stopping.
        """
        return await asyncio.shield(self.end("down", timeout_s))

    def token(self, subject: str, audience: str) -> str:
        """A token of at most 60 s. Raises: NotFound for a name that is neither's."""
        self._named([audience])
        if subject != OPERATOR:
            self._named([subject])
        return self._mint(subject, audience)

    def inflict(self, fault: Fault) -> None:
        """Break something on purpose, for a while. Raises: NotFound, Conflict."""
        self._named([fault.target])
        self._refuse([])
        self._faults.begin(fault)
        self._journal.write("fault", **codec.plain(fault))

    def mend(self, names: Sequence[str]) -> tuple[Fault, ...]:
        """End the faults of these programs, of all when none is named. Raises: NotFound."""
        self._named(names)
        return self._faults.end(names)

    async def watch(self) -> AsyncGenerator[Status | Transition, None]:
        """The present status, then every transition until the mesh goes down."""
        queue = self._watchers.join()
        try:
            yield self.status()
            while (transition := await queue.get()) is not None:
                yield transition
        finally:
            self._watchers.leave(queue)

    # for the host

    def end(self, reason: Reason, timeout_s: float | None = None) -> asyncio.Task[list[Stopped]]:
        """Begin to stop everything, unless that has begun; `ended` has the outcome."""
        if self._ending is None:
            self._ending = asyncio.get_running_loop().create_task(self._end(reason, timeout_s))
        return self._ending

    @property
    def ending(self) -> bool:
        """Whether everything is being stopped."""
        return self._ending is not None

    def kill_all(self) -> None:
        """SIGKILL every group now."""
        for runner in self._runners.values():
            if runner.life.alive:
                runner.feed(Stop(by_s=clock.monotonic_s()))

    def reap(self, others: Collection[int]) -> None:
        """A child of ours ended: bury it if it is nobody's, and look at groups that wait for it.

        Args:
            others: children that are waited for elsewhere.
        """
        for runner in self._runners.values():
            if runner.child is not None:
                runner.child.look()
        if self._launcher.busy:
            asyncio.get_running_loop().call_later(REAP_AGAIN_S, self.reap, others)
        else:
            reap_strangers({*others, self._launcher.pid, *self.pids()})

    def pids(self) -> set[int]:
        """Of every process that is waited for here."""
        return {pid for runner in self._runners.values() for pid in runner.pids()}

    def close(self) -> None:
        """Let go of everything; nothing is signalled but what stands still on purpose."""
        self._faults.end()
        for runner in self._runners.values():
            runner.close()
        for heard in self._notified:
            heard.close()
        self._watchers.close()

    # within

    def _named(self, names: Sequence[str]) -> list[Runner]:
        for name in names:
            if name not in self._runners:
                near = difflib.get_close_matches(name, self._runners, 1)
                hint = f"did you mean {near[0]}?" if near else f"one of {', '.join(self._runners)}"
                raise NotFound(f"no service {name!r}", hint=hint, code="unknown-service")
        return [self._runners[name] for name in dict.fromkeys(names)]

    def _refuse(self, names: Sequence[str]) -> None:
        """Refuse to start anything now, or what is run by hand."""
        if self.ending:
            raise Conflict("this mesh is going down")
        for name in names:
            if name in self._lent:
                raise Conflict(
                    f"{name} is {self._runners[name].life.cause}",
                    hint="end that first; it is started again by itself then",
                )

    def _open_gates(self) -> None:
        """Tell those that wait what they wait for; one that starts may let the next one start."""
        opened = True
        while opened:
            opened = False
            for runner in self._runners.values():
                if runner.life.waiting:
                    runner.feed(plan.gate(runner.program, self._lives()))
                    opened |= not runner.life.waiting

    def _lives(self) -> dict[str, Life]:
        return {name: runner.life for name, runner in self._runners.items()}

    def _changed_to(self, transition: Transition) -> None:
        self._journal.write("transition", **codec.plain(transition))
        self._changed.set()
        self._changed = asyncio.Event()
        self._watchers.tell(transition)
        asyncio.get_running_loop().call_soon(self._open_gates)
        if not self._linger and transition.cause != "asked" and self._at_rest():
            self.end("ended")
        self._on_change(transition)

    def _at_rest(self) -> bool:
        """Whether nothing runs or will; what is held or lent may."""
        rest = (runner.life.state in {"stopped", "failed"} for runner in self._runners.values())
        return not self._lent and all(rest)

    async def _until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            await self._changed.wait()

    async def _end(self, reason: Reason, timeout_s: float | None) -> list[Stopped]:
        failed = [name for name, runner in self._runners.items() if runner.life.state == "failed"]
        self._faults.end()
        stopped = await self._stop([*self._runners], timeout_s)
        self.ended.set_result(Outcome(reason=reason, stopped=tuple(stopped), failed=tuple(failed)))
        return stopped

    async def _stop(
        self, names: Sequence[str], timeout_s: float | None, why: str = "asked"
    ) -> list[Stopped]:
        """Level by level, who asks before who is asked.

        What is left at the deadline is stopped at once, in no order, with LAST_CHANCE_S to do so.
        """
        needs = {name: self._needs[name] for name in self._runners if name in names}
        order = plan.levels(needs, self._asks)
        graces_s = [self._runners[name].program.stop_grace_s for name in names]
        given_s = max(graces_s, default=0.0) if timeout_s is None else timeout_s
        deadline_s = clock.monotonic_s() + given_s
        reports: list[Stopped] = []
        while order:
            if clock.monotonic_s() >= deadline_s and reports:
                order = [[name for level in order for name in level]]
                deadline_s = clock.monotonic_s() + LAST_CHANCE_S
            level = [self._runners[name] for name in order.pop()]
            reports += await asyncio.gather(
                *(
                    self._stop_one(runner, deadline_s, why, own=timeout_s is None)
                    for runner in level
                )
            )
        return reports

    async def _stop_one(self, runner: Runner, deadline_s: float, why: str, *, own: bool) -> Stopped:
        name, begun_s = runner.program.name, clock.monotonic_s()
        alive = runner.life.alive
        own_s = begun_s + runner.program.stop_grace_s
        runner.feed(Stop(by_s=min(deadline_s, own_s) if own else deadline_s, why=why))
        await self._until(lambda: not runner.life.alive or runner.life.desired == "up")
        after_s = round(clock.monotonic_s() - begun_s, 3)
        if not alive:
            return Stopped(name=name, how="already stopped", after_s=0.0)
        return Stopped(
            name=name, how="killed" if runner.life.killed else "graceful", after_s=after_s
        )


def _settled(runner: Runner) -> bool:
    return runner.life.state in UP or runner.life.state in {"stopped", "failed"}
