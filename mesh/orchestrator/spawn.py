"""A process for whoever needs one: its descriptors, the order for it, and a hold on it.

Every process of a mesh comes from here, programs and health commands alike; the forking itself is
done by the starter.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from typing import TYPE_CHECKING

from mesh.orchestrator.child import Child
from mesh.orchestrator.launcher import StarterLost

if TYPE_CHECKING:
    from collections.abc import Callable

    from mesh.orchestrator.launcher import Launcher
    from mesh.orchestrator.starter import Order

STARTERS_MAX = 3
"""Starters that may die over one order before that counts against the program."""

OUTPUT_BYTES_KEPT = 4096
"""Of what a command prints, its end."""

_CHUNK_BYTES = 64 * 1024


async def spawn(
    launcher: Launcher,
    order: Order,
    output: int,
    listen: int | None,
    *,
    on_running: Callable[[str], None],
    on_word: Callable[[str], None],
    on_exit: Callable[[int], None],
) -> Child:
    """A process that waits at its door. Whatever happens to starters, no old order is obeyed.

    Args:
        order: `descriptors` is filled in here.
        output: its stdout and stderr; stays the caller's.
        listen: its listening socket, likewise.

    Raises: ProgramFailed when it never can be made; Unavailable or OSError when it cannot now.
    """
    for left in reversed(range(STARTERS_MAX)):
        with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
            door, inner_door = socket.socketpair()
            ours.enter_context(door)
            theirs.enter_context(inner_door)
            door.settimeout(0)
            words, notify = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            ours.callback(os.close, words)
            theirs.callback(os.close, notify)
            descriptors = {"door": inner_door.fileno(), "notify": notify, "log": output}
            if listen is not None:
                descriptors["listen"] = listen
            order = {**order, "descriptors": [*descriptors]}
            try:
                pid, pidfd = await launcher.launch(order, [*descriptors.values()])
            except StarterLost:
                if left:
                    continue
                raise
            ours.pop_all()
            return Child(
                pid, pidfd, door, words, on_running=on_running, on_word=on_word, on_exit=on_exit
            )
    raise AssertionError  # the last try returns or raises


class Errand:
    """A command that is run once, beside a program and for it."""

    def __init__(self, launcher: Launcher, order: Order) -> None:
        """Nothing is started yet."""
        self._launcher = launcher
        self._order = order
        self._said = b""
        self._child: Child | None = None
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    @property
    def pid(self) -> int | None:
        """While it runs."""
        return self._child.pid if self._child is not None else None

    async def run(self) -> tuple[int, str]:
        """Its exit status (negative is a signal) and the end of what it printed.

        Raises: as `spawn`. Cancellation: kills it with its whole group; it is buried later.
        """
        loop = asyncio.get_running_loop()
        reading, writing = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(reading, False)
        loop.add_reader(reading, self._hear, reading)
        try:
            try:
                self._child = await spawn(
                    self._launcher,
                    self._order,
                    writing,
                    None,
                    on_running=_ignore,
                    on_word=_ignore,
                    on_exit=self._exited,
                )
            finally:
                os.close(writing)
            self._child.go()
            status = await asyncio.shield(self._ended)
            self._hear(reading)
        except asyncio.CancelledError:
            if self._child is not None:
                self._child.signal(signal.SIGKILL, patient=False)
            raise
        finally:
            loop.remove_reader(reading)
            os.close(reading)
        return status, self._said.decode("utf-8", "replace")

    def close(self) -> None:
        """Let go of the process; it is not signalled."""
        if self._child is not None:
            self._child.close()

    def _hear(self, reading: int) -> None:
        try:
            said = os.read(reading, _CHUNK_BYTES)
        except BlockingIOError:
            return
        if not said:
            asyncio.get_running_loop().remove_reader(reading)
        self._said = (self._said + said)[-OUTPUT_BYTES_KEPT:]

    def _exited(self, status: int) -> None:
        assert self._child is not None
        self._launcher.forget(self._child.pid)
        self._child = None
        if not self._ended.done():
            self._ended.set_result(status)


def _ignore(_: str) -> None:
    """Said, and of no interest."""
