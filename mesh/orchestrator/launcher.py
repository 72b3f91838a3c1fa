"""The supervisor's end of the starter: hand over an order, get a process that waits to go.

A dead starter takes nobody with it: it is replaced and told the living groups. What it may have
forked for the order in its hand is never let go: it finds its door closed and ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
from collections import deque
from typing import TYPE_CHECKING, cast

from mesh import clock
from mesh.errors import ProgramFailed, Unavailable
from mesh.orchestrator import starter
from mesh.orchestrator.ignition import ignite

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mesh.orchestrator.ignition import Ignited
    from mesh.orchestrator.starter import Order

PRELOAD_S = 30.0
"""A starter that has not finished its imports by then hangs in one of them."""

ANSWER_S = 5.0
"""A fork takes milliseconds; a starter silent for this long is stopped or lost."""

STILLBORN_MAX = 5
STILLBORN_WINDOW_S = 60.0
"""As many starters that die before they can serve are no accident: replacing them would only burn
the machine. One that has served is replaced however often somebody kills it."""

_STDERR = 2
"""Where a starter is to say what goes wrong with it: where we do."""

_EXIT_S = 2.0
"""Killing the groups it was told of takes a starter microseconds; then it is killed itself."""


class StarterLost(Unavailable):
    """The starter went away with an order in hand; give it again, with a new door."""


class Launcher:
    """The starter, as the supervisor uses it. Made before lock, loop and sockets exist.

    Attributes:
        failed_imports: of the present starter's preload, module to error.
    """

    def __init__(self, preload: Sequence[str], ignited: Ignited | None = None) -> None:
        """Execute the starter, which begins to import `preload`; or use the one that has."""
        self.failed_imports: Mapping[str, str] = {}
        self._preload = tuple(preload)
        self._groups: set[int] = set()
        self._stillborn: deque[float] = deque(maxlen=STILLBORN_MAX)
        self._turn = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._on_hello: Callable[[], None] = lambda: None
        self._hello: asyncio.Future[bool] | None = None
        self._asked = 0
        self._answer: asyncio.Future[Mapping[str, object]] | None = None
        if ignited is not None and ignited.preload != self._preload:
            ignited.quench()
            ignited = None
        self._begin(ignited or ignite(self._preload))

    @property
    def pid(self) -> int:
        """Of the present starter."""
        return self._process.pid

    @property
    def busy(self) -> bool:
        """Whether a process may have been forked whose pid we do not hold yet."""
        return self._turn.locked()

    def attach(self, on_hello: Callable[[], None]) -> None:
        """Begin to listen, on the running loop; `on_hello` is called after each preload."""
        self._loop = asyncio.get_running_loop()
        self._on_hello = on_hello
        self._listen(self._loop)

    async def launch(self, order: Order, descriptors: Sequence[int]) -> tuple[int, int]:
        """Have a process forked. Returns its pid and a pidfd, which is the caller's to close.

        One at a time: the starter works them off in order anyway, and its socket never fills.

        Raises: ProgramFailed when it never can be; Unavailable or OSError when it cannot now,
            among them StarterLost, after which another starter is there.
        """
        async with self._turn:
            self._asked += 1
            message = json.dumps({"id": self._asked, "start": order}).encode()
            if len(message) > starter.MESSAGE_BYTES_MAX:
                raise ProgramFailed(
                    f"{len(message)} bytes of arguments and environment are too many"
                )
            pid = await self._ask(message, descriptors)
            self._groups.add(pid)
            return pid, os.pidfd_open(pid)

    def forget(self, pid: int) -> None:
        """This group is empty; its number may soon be somebody else's."""
        self._groups.discard(pid)
        with contextlib.suppress(OSError):
            self._line.send(json.dumps({"forget": [pid]}).encode())

    def renew(self) -> None:
        """Have another starter, with fresh imports, in place of this one; nobody dies of it."""
        self._replace()
        self._stillborn.clear()

    def close(self) -> None:
        """End the starter, and by it every group that still lives. Idempotent."""
        if self._groups:
            self._hang_up()
        else:
            self._process.kill()
        try:
            self._process.wait(_EXIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._hang_up()

    def _begin(self, ignited: Ignited) -> None:
        self._process, self._line = ignited.process, ignited.line

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        self._hello = loop.create_future()
        loop.add_reader(self._line, self._hear)
        with contextlib.suppress(OSError):
            socket.send_fds(self._line, [json.dumps({"output": True}).encode()], [_STDERR])

    def _hang_up(self) -> None:
        if self._line.fileno() >= 0:
            if self._loop is not None:
                self._loop.remove_reader(self._line)
            self._line.close()

    def _hear(self) -> None:
        try:
            raw = self._line.recv(starter.MESSAGE_BYTES_MAX)
        except BlockingIOError:
            return
        except OSError:
            raw = b""
        if not raw:
            self._replace()
            return
        message = cast("dict[str, object]", json.loads(raw))
        if "failed" in message:
            self.failed_imports = cast("dict[str, str]", message["failed"])
            if self._hello is not None and not self._hello.done():
                self._hello.set_result(True)
            self._on_hello()
        elif message["to"] == self._asked and self._answer is not None and not self._answer.done():
            self._answer.set_result(message)
        elif "pid" in message:
            self.forget(cast("int", message["pid"]))  # an order given up; its door is closed

    def _replace(self) -> None:
        """Bury a starter that died or fell silent, and execute another unless they keep dying.

        It is killed before its line is closed: to one that is merely stopped, a closed line would
        mean that the supervisor is gone.
        """
        self._process.kill()
        self._process.wait()
        self._hang_up()
        if self._hello is None or not self._hello.done():
            self._stillborn.append(clock.monotonic_s())
        for awaited in (self._hello, self._answer):
            if awaited is not None and not awaited.done():
                awaited.cancel()
        if not self._broken() and self._loop is not None:
            self._begin(ignite(self._preload))
            self._listen(self._loop)
            self._line.send(json.dumps({"adopt": sorted(self._groups)}).encode())

    def _broken(self) -> bool:
        if len(self._stillborn) < STILLBORN_MAX:
            return False
        return clock.monotonic_s() - self._stillborn[0] < STILLBORN_WINDOW_S

    async def _ask(self, message: bytes, descriptors: Sequence[int]) -> int:
        """One order, one answer. Raises: Unavailable, StarterLost among it."""
        if self._line.fileno() < 0:
            if self._broken():
                raise Unavailable("the starter dies while it imports; see what it preloads")
            self._replace()
        assert self._loop is not None
        assert self._hello is not None
        hello, answer = self._hello, self._loop.create_future()
        self._answer = answer
        try:
            async with asyncio.timeout(PRELOAD_S):
                await asyncio.wait([hello])
            if hello.cancelled():
                raise StarterLost("the starter died")
            async with asyncio.timeout(ANSWER_S):
                socket.send_fds(self._line, [message], list(descriptors))
                await asyncio.wait([answer])
        except (TimeoutError, OSError):
            self._replace()
            raise StarterLost("the starter fell silent") from None
        finally:
            self._answer = None
        if answer.cancelled():
            raise StarterLost("the starter died")
        if "pid" not in answer.result():
            raise Unavailable(str(answer.result()["error"]))
        return cast("int", answer.result()["pid"])
