"""A mesh in this process: takes what it needs in the one safe order, gives everything back.

The starter before any descriptor that must not leak, the lock before anything is unlinked or
bound, every port before anything is started, the description when callers can connect.
On every way out nothing is left: no process, no socket, no lock, no file but data and logs.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import select
import signal
from typing import TYPE_CHECKING

from mesh import clock
from mesh.errors import AlreadyRunning, MeshError
from mesh.orchestrator import (
    child,
    control,
    keeper,
    logs,
    plan,
    ports,
    probe,
    replacing,
    starter,
    state,
)
from mesh.orchestrator.control import Control
from mesh.orchestrator.launcher import Launcher
from mesh.orchestrator.ports import Listener
from mesh.orchestrator.supervisor import Supervisor
from mesh.orchestrator.watching import Watcher

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from mesh.orchestrator.contract import Outcome, Program, Status, Transition
    from mesh.orchestrator.ignition import Ignited
    from mesh.orchestrator.logs import Journal


def supervise(
    programs: Sequence[Program],
    *,
    project: str,
    data_dir: Path,
    config_file: str,
    mint: Callable[[str, str], str],
    start: Sequence[str] | None = None,
    preload: Sequence[str] = (),
    free_ports: bool = False,
    linger: bool = True,
    watch: bool = False,
    options: Sequence[str] = (),
    ignited: Ignited | None = None,
    on_change: Callable[[Status | Transition], None] = lambda _: None,
) -> Outcome:
    """Run programs until asked to end, from the main thread of a process with no event loop.

    Args:
        programs: all that may ever run here.
        start: those to start now, exactly these; None for all.
        preload: modules that the starter imports once for all of them.
        mint: makes a token for (subject, audience); called for the control socket.
        linger: go on when all programs have ended or failed by themselves.
        watch: restart programs whose files change (`Program.watch`).
        options: noted for those who begin this mesh again.
        ignited: a starter that has begun already, to be used if it imports the same.
        on_change: told the first status, with every port known and nothing started, then every
            transition; what it raises at the status ends the mesh before it began. Called on the
            event loop: it must not wait for anybody, not even for a terminal.

    Raises: AlreadyRunning; PortTaken (nothing was started); ConfigInvalid (a cycle, …); Broken.
    Effects: umask 077, no core files; this process adopts its orphaned descendants, and at the end kills every
        child that it did not have before.
    """
    plan.check(programs)
    probe.check(programs)
    watcher = Watcher(programs, data_dir.absolute(), preload) if watch else None
    names = [program.name for program in programs] if start is None else [*start]
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, starter.CORE_LIMITS)
    data_dir = data_dir.absolute()
    for part in ("run", "logs"):
        (data_dir / part).mkdir(parents=True, exist_ok=True)
    listeners = {
        program.name: Listener(
            program.name,
            0 if free_ports else program.port,
            shared=program.socket == "inherit",
        )
        for program in programs
        if program.port is not None
    }
    with contextlib.ExitStack() as stack:
        before = frozenset(child.children()) - ({ignited.process.pid} if ignited else set())
        launcher = Launcher(preload, ignited)
        stack.callback(launcher.close)
        stack.enter_context(state.locked(data_dir))
        sockets = stack.enter_context(state.made_runtime_dir(data_dir))
        stack.enter_context(ports.held(listeners.values(), names))
        door = stack.enter_context(control.listening(sockets / "control.sock"))
        journal = logs.Journal(data_dir / "logs" / f"{plan.SUPERVISOR}.log")
        stack.callback(journal.close)
        run = _described(project, data_dir, sockets, config_file, options, listeners)
        stack.enter_context(state.published(run))
        written = [*(program.name for program in programs), plan.SUPERVISOR]
        paths = [data_dir / "logs" / f"{name}.log" for name in written]
        stack.enter_context(keeper.Keeper(paths, tell=journal.write).at_work())
        journal.write("up", pid=run["pid"], run_id=run["run_id"], services=names)

        def settle() -> None:
            try:
                if replacing.settle(data_dir):
                    journal.write("a restore that was cut off has been brought to its end")
            except AlreadyRunning:  # whoever replaces files now has done so
                pass
            except MeshError as error:
                journal.write("nothing is started", error=error.detail)
                raise

        def supervisor() -> Supervisor:
            return Supervisor(
                programs,
                project=project,
                logs_dir=data_dir / "logs",
                sockets=sockets,
                listeners=listeners,
                launcher=launcher,
                journal=journal,
                mint=mint,
                on_change=on_change,
                settle=settle,
                linger=linger,
            )

        mesh = _Mesh(launcher, journal, door, before, watcher)
        outcome = asyncio.run(mesh.run(supervisor, names, on_change))
        journal.write("down", reason=outcome.reason)
        return outcome


class _Mesh:
    """The part of a mesh's life that has an event loop."""

    def __init__(
        self,
        launcher: Launcher,
        journal: Journal,
        door: socket.socket,
        others: frozenset[int],
        watcher: Watcher | None,
    ) -> None:
        self._launcher = launcher
        self._watcher = watcher
        self._journal = journal
        self._door = door
        self._others = others

    async def run(
        self,
        make: Callable[[], Supervisor],
        names: Sequence[str],
        on_status: Callable[[Status], None],
    ) -> Outcome:
        """Serve until the supervisor has ended; whatever happens, leave no process behind."""
        child.adopt_orphans(yes=True)
        supervisor = make()
        server = Control(supervisor)
        try:
            self._launcher.attach(self._preloaded)
            self._catch_signals(supervisor)
            terminal = _hang_up_of_terminal(lambda: supervisor.end("signal"))
            on_status(supervisor.status())
            supervisor.begin(names)
            await server.serve(self._door)
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(self._watch(self._watcher, supervisor))
                outcome = await supervisor.ended
                watching.cancel()
            return outcome
        finally:
            terminal.close()
            supervisor.close()
            self._launcher.close()
            await child.sweep(self._others)
            await server.close()
            child.adopt_orphans(yes=False)

    def _catch_signals(self, supervisor: Supervisor) -> None:
        """The first asks, a second SIGINT insists. A closed terminal asks too."""
        loop = asyncio.get_running_loop()

        def asked(number: signal.Signals) -> None:
            if supervisor.ending and number == signal.SIGINT:
                supervisor.kill_all()
            supervisor.end("signal")

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, asked, number)
        loop.add_signal_handler(signal.SIGCHLD, supervisor.reap, self._others)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)

    def _preloaded(self) -> None:
        if failed := self._launcher.failed_imports:
            self._journal.write("preload failed", modules=dict(failed))

    async def _watch(self, watcher: Watcher | None, supervisor: Supervisor) -> None:
        """Restart what changes; a starter that has the old code in it is replaced first."""
        if watcher is None:
            return
        try:
            async with contextlib.aclosing(watcher.changes()) as changes:
                async for changed in changes:
                    if watcher.preloaded(changed):
                        self._launcher.renew()
                    for name, files in changed.items():
                        supervisor.changed([name], files[0].name)
        except (OSError, RuntimeError) as error:  # the kernel's limits, and watchfiles' own word
            self._journal.write("files are watched no more", error=str(error))


def _described(
    project: str,
    data_dir: Path,
    sockets: Path,
    config_file: str,
    options: Sequence[str],
    listeners: Mapping[str, Listener],
) -> state.Run:
    pid = os.getpid()
    return {
        "schema": state.SCHEMA,
        "project": project,
        "pid": pid,
        "start_time": state.start_time(pid) or 0,
        "boot_id": state.boot_id(),
        "run_id": clock.new_id("run"),
        "runtime_dir": str(sockets),
        "control": str(sockets / "control.sock"),
        "config_file": config_file,
        "data_dir": str(data_dir),
        "started_at": clock.iso(clock.now_ms()),
        "options": [*options],
        "services": {
            name: {"port": listener.number, "url": listener.url}
            for name, listener in listeners.items()
        },
    }


def _hang_up_of_terminal(told: Callable[[], object]) -> contextlib.ExitStack:
    """Have `told` called once when the terminal closes before which we stand, if we do; until closed.

    The kernel sends SIGHUP to the leader of the terminal's session alone. That may be make, which then
    waits for us.
    """
    watching = contextlib.ExitStack()
    with contextlib.suppress(OSError):
        if os.tcgetpgrp(0) == os.getpgrp():
            events = watching.enter_context(select.epoll())
            events.register(0, 0)  # of what is typed nothing is told, of its end it is
            loop = asyncio.get_running_loop()

            def hung_up() -> None:
                loop.remove_reader(events)
                told()

            loop.add_reader(events, hung_up)
            watching.callback(loop.remove_reader, events)
    return watching
