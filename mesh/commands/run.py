"""`mesh run`: one service in this terminal, in place of the supervised one."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, cast

import click

from mesh.commands import output
from mesh.commands.project import Project
from mesh.commands.verb import service_argument, verb
from mesh.errors import ProgramFailed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

OWN = ("TERM", "COLORTERM", "COLUMNS", "LINES", "PYTHONBREAKPOINT", "EDITOR", "HOME")
"""Variables of this terminal and not of the one in which the mesh was begun."""

KILL_S = 10.0
"""From the end of the mesh, which asks this program to stop too, to SIGKILL."""

_PR_SET_PDEATHSIG = 1
_SIGNALLED = 128
"""A shell tells a death by signal as this and its number."""

_ENTRY = "import importlib; importlib.import_module({module!r}).{function}(*{args!r})"


def _command(lease: dict[str, object]) -> list[str]:
    """The argv that is this program; an entry gets an interpreter of its own."""
    if lease["command"] is not None:
        return list(cast("Sequence[str]", lease["command"]))
    module, _, function = str(lease["entry"]).partition(":")
    args = list(cast("Sequence[str]", lease["args"]))
    line = _ENTRY.format(module=module, function=function, args=args)
    return [sys.executable, "-X", "frozen_modules=off", "-c", line]


def _environment(lease: dict[str, object]) -> dict[str, str]:
    said = cast("dict[str, str]", lease["environment"])
    own = {name: os.environ[name] for name in OWN if name in os.environ}
    return {name: value for name, value in said.items() if name != "NOTIFY_SOCKET"} | own


def _with_us() -> None:
    """In the child: die with this command, whatever kills it."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _begun(lease: dict[str, object]) -> subprocess.Popen[bytes]:
    command = _command(lease)
    try:
        return subprocess.Popen(  # noqa: S603  (as configured)
            command,
            cwd=str(lease["working_dir"]),
            env=_environment(lease),
            preexec_fn=_with_us,  # noqa: PLW1509  (no thread runs here)
        )
    except OSError as error:
        raise ProgramFailed(f"cannot run {command[0]}: {error.strerror}") from None


def _until_ended(child: subprocess.Popen[bytes], line: int) -> int:
    """Wait for the program; once `line` closes, the mesh has gone and the program is to go too."""
    ended = os.pidfd_open(child.pid)
    try:
        ready, _, _ = select.select([ended, line], [], [])
        if ended not in ready:
            output.note("the mesh went down; stopping this program too")
            child.terminate()
            if not select.select([ended], [], [], KILL_S)[0]:
                child.kill()
    finally:
        os.close(ended)
    return child.wait()


def _asked(child: subprocess.Popen[bytes]) -> None:
    """Ctrl-C reaches the program by the terminal; other requests to end are handed on."""

    def hand_on(number: int, _: FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, hand_on)


@verb("mesh run order", "mesh run order    # with breakpoint() in one of its actions")
@service_argument
@click.pass_context
def command(ctx: click.Context, *, service: str) -> int:
    """Run one service in this terminal, in place of the supervised one.

    It has this terminal's input, no watchdog and no sandbox, so it may stand in a debugger. When
    it ends, the mesh runs its own again. The exit code is the program's.
    """
    project = Project.of(ctx)
    project.check_services([service])
    remote = project.remote()
    with remote.lend(service) as (lease, line):
        output.note(f"{service} runs here now; the mesh takes over again when it ends")
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        child = _begun(lease)
        _asked(child)
        status = _until_ended(child, line)
    return status if status >= 0 else _SIGNALLED - status
