"""The dashboard of `mesh up`: a process beside the mesh, so that no terminal ever holds the mesh.

It belongs to the same foreground group: Ctrl-C reaches both, the one stops the services and the other
shows it until there is nothing to show. Killed, it takes nothing with it; when the mesh is killed, it
gives the terminal back and ends. It is nobody's child, since who descends from a supervisor is taken
for a program, which may not ask for what the operator may.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys
import termios
from typing import TYPE_CHECKING, NoReturn

from mesh import clock
from mesh.commands import output
from mesh.errors import MeshError
from mesh.orchestrator import state

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mesh.commands.output import Part
    from mesh.commands.project import Project
    from mesh.dashboard.frame import Frame

POLL_S = 0.02
"""Between two looks whether the mesh has begun."""

PID_BYTES_MAX = 16

UP = ("ready", "degraded")


class Picture:
    """The process. Call it before any thread or loop exists; `names` are to be ready."""

    def __init__(self, project: Project, names: Sequence[str], begun_s: float) -> None:
        """Begin it; before the mesh answers it shows what is awaited, on the screen as it is."""
        self._attributes = termios.tcgetattr(0)
        sys.stdout.flush()
        sys.stderr.flush()
        supervisor = os.getpid()
        reading, self._lifeline = os.pipe()
        told, telling = os.pipe()
        between = os.fork()
        if not between:
            if not (pid := os.fork()):
                _be_the_picture(project, supervisor, _Greeting(names, begun_s), reading)
            os.write(telling, str(pid).encode())
            os._exit(0)
        self._process = os.pidfd_open(int(os.read(told, PID_BYTES_MAX)))
        os.waitpid(between, 0)
        for each in (reading, told, telling):
            os.close(each)

    def wait(self) -> None:
        """Until it has gone, by itself or otherwise, and the terminal is as it was."""
        select.select([self._process], [], [])
        with contextlib.suppress(OSError, termios.error):
            if termios.tcgetattr(0) != self._attributes:
                from mesh.dashboard.terminal import restore  # noqa: PLC0415  (seldom)

                restore(self._attributes)

    def let_go(self) -> None:
        """The mesh is gone, also if it has never begun."""
        os.close(self._lifeline)

    def kill(self) -> None:
        """It does not end by itself."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._process, signal.SIGKILL)


def _be_the_picture(
    project: Project, supervisor: int, greeting: _Greeting, lifeline: int
) -> NoReturn:
    """The life of the new process; it never returns into the caller's stack."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.closerange(3, lifeline)
        os.closerange(lifeline + 1, os.sysconf("SC_OPEN_MAX"))
        with output.Live() as rows:
            rows.show(awaited(project.config.name, greeting.names, _rows_max()))
            if _begun(project, supervisor, lifeline):
                from mesh.commands import dash  # noqa: PLC0415  (the mesh begins meanwhile)

                dash.watch(project, owner=True, greeting=greeting, before=rows.clear)
    except MeshError:  # the mesh went while it began, and says why itself
        pass
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os._exit(0)


def _begun(project: Project, supervisor: int, lifeline: int) -> bool:
    """Wait for the mesh of this process; whether it has begun, or is gone before that."""
    while not select.select([lifeline], [], [], POLL_S)[0]:
        run = state.running(project.data)
        if run is not None and run["pid"] == supervisor:
            return True
    return False


def _rows_max() -> int:
    return shutil.get_terminal_size().lines - 1


def awaited(mesh: str, names: Sequence[str], rows_max: int) -> list[list[Part]]:
    """The rows before the first picture: they go to the normal screen, where errors go too."""
    head: list[Part] = [("mesh ", "strong"), (mesh, "strong"), ("  begins", "faint")]
    foot: list[Part] = [("waiting for its first status   stop: Ctrl-C", "faint")]
    room, width = max(0, rows_max - 2), max(map(len, names), default=0)
    shown = names if len(names) <= room else names[: max(0, room - 1)]
    rows: list[list[Part]] = [[f"  {name:<{width}}  ", ("starting", "cyan")] for name in shown]
    if len(shown) < len(names) and room:
        rows.append([(f"  and {len(names) - len(shown)} more", "faint")])
    return [head, *rows, foot][:rows_max]


class _Greeting:
    """Says once that everything is ready."""

    def __init__(self, names: Sequence[str], begun_s: float) -> None:
        self.names = names
        self._begun_s = begun_s

    def __call__(self, frame: Frame) -> str:
        states = {row.name: row.state for row in frame.status.services}
        if not all(states.get(name) in UP for name in self.names):
            return ""
        count, took_s = len(self.names), clock.monotonic_s() - self._begun_s
        call = "mesh call order create" if "order" in self.names else "mesh call"
        ready = f"{count} service{'' if count == 1 else 's'} ready in {took_s:.1f}s"
        return f"{ready}   call: {call}   stop: Ctrl-C or q"
