"""One running program, held by a pidfd: signals to its group, its words, and its end.

A child is its whole process group: it has ended when its leader has and nobody is left in the
group. A pid is never signalled once it may belong to somebody else. What a program leaves behind
outside its group is adopted by the supervisor, a subreaper, and reaped here without taking
the exit status of anybody who is waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from mesh import clock

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Collection

GROUP_POLL_S = 0.05
"""A group member whose parent lives on does not raise SIGCHLD here: look this often for its end."""

KILLED_GROUP_S = 5.0
"""A killed group that still has a member after this long is stuck in the kernel: stop waiting."""

WORD_BYTES_MAX = 4096
"""Longest line a program may say, as much as a pipe takes in one piece; a longer one is dropped."""

STRANGERS_MAX = 4096
"""Adopted processes reaped in one go: bounds the time away from the event loop to some ms."""

SWEEP_S = 2.0
"""A killed process is gone within milliseconds; one stuck in the kernel is left to it."""

SWEEP_POLL_S = 0.005

_PR_SET_CHILD_SUBREAPER = 36
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Child:
    """A process made by the starter, which waits at its door until it is told to go.

    Args:
        pid, pidfd: of the group's leader; the descriptor is closed here.
        door: our end of the socket it waits at.
        words: the reading end of its notify pipe.
        on_running: called once it has been executed or its entry is about to be called, or
            with the reason why it cannot be.
        on_word: called with each line it says.
        on_exit: called once with the leader's status, when the whole group is gone.
    """

    def __init__(
        self,
        pid: int,
        pidfd: int,
        door: socket.socket,
        words: int,
        *,
        on_running: Callable[[str], None],
        on_word: Callable[[str], None],
        on_exit: Callable[[int], None],
    ) -> None:
        """Begin to listen to it."""
        self.pid = pid
        self.started_s = clock.monotonic_s()
        self._pidfd = pidfd
        self._door = door
        self._words = words
        self._unfinished = b""
        self._on_running = on_running
        self._on_word = on_word
        self._on_exit = on_exit
        self._status: int | None = None
        self._patient = False
        self._killed_s: float | None = None
        self._look: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(pidfd, self._leader_ended)
        self._loop.add_reader(door, self._door_moved)
        self._loop.add_reader(words, self.hear)

    def go(self) -> None:
        """Let it become the program."""
        with contextlib.suppress(OSError):
            self._door.send(b"g")

    def abandon(self) -> None:
        """Never let it: it ends by itself."""
        self._close_door()

    def signal(self, number: int, *, patient: bool) -> None:
        """Send to every member of the group.

        Args:
            patient: members that outlive the leader are given time; else they are killed then.
        """
        self._patient = patient
        if number == signal.SIGKILL:
            self._killed_s = clock.monotonic_s()
        with contextlib.suppress(PermissionError):
            try:
                os.killpg(self.pid, number)
            except ProcessLookupError:
                if self._status is None:
                    self._signal_leader(number)

    def _signal_leader(self, number: int) -> None:
        """For the moment before it leads a group of its own."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, number)

    def usage(self) -> tuple[float, int] | None:
        """CPU seconds used so far and resident bytes, of the leader."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text("utf-8").rpartition(")")[2].split()
        except OSError:
            return None
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S, int(fields[21]) * _PAGE_BYTES

    def look(self) -> None:
        """After the leader's end: see whether the group is empty, and end with it."""
        if self._status is None or self._words < 0:
            return
        stuck = self._killed_s is not None and clock.monotonic_s() - self._killed_s > KILLED_GROUP_S
        if not _group_lives(self.pid) or stuck:
            self.close()
            self._on_exit(self._status)
        elif self._look is None:
            self._look = self._loop.call_later(GROUP_POLL_S, self._look_again)

    def _look_again(self) -> None:
        self._look = None
        self.look()

    def _leader_ended(self) -> None:
        found = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
        if found is None:
            return
        self._loop.remove_reader(self._pidfd)
        exited = found.si_code == os.CLD_EXITED
        self._status = found.si_status if exited else -found.si_status
        self._door_moved()
        self.hear()
        if not self._patient:
            self.signal(signal.SIGKILL, patient=False)
        self.look()

    def _door_moved(self) -> None:
        if self._door.fileno() < 0:
            return
        try:
            said = self._door.recv(WORD_BYTES_MAX)
        except BlockingIOError:
            return
        except OSError:
            said = b""
        self._close_door()
        if said or self._status is None:
            self._on_running(said.decode(errors="replace"))

    def _close_door(self) -> None:
        if self._door.fileno() >= 0:
            self._loop.remove_reader(self._door)
            self._door.close()

    def hear(self) -> None:
        """Pass on every whole line; forget one that is too long."""
        if self._words < 0:
            return
        try:
            said = os.read(self._words, 64 * WORD_BYTES_MAX)
        except BlockingIOError:
            return
        if not said:
            self._loop.remove_reader(self._words)
            return
        *lines, rest = (self._unfinished + said).split(b"\n")
        self._unfinished = rest[:WORD_BYTES_MAX]
        for line in lines:
            if len(line) < WORD_BYTES_MAX:
                self._on_word(line.decode(errors="replace"))

    def close(self) -> None:
        """Let go of every descriptor; the process itself is left alone."""
        if self._words < 0:
            return
        if self._look is not None:
            self._look.cancel()
        self._close_door()
        for descriptor in (self._pidfd, self._words):
            self._loop.remove_reader(descriptor)
            os.close(descriptor)
        self._words = -1


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def adopt_orphans(*, yes: bool) -> None:
    """Become, or cease to be, the parent of every orphan among our descendants (prctl(2))."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(yes), 0, 0, 0)


def children() -> list[int]:
    """The pids of this process's children, zombies included."""
    found: list[int] = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            found += map(int, (task / "children").read_text("ascii").split())
    return found


async def sweep(known: Collection[int]) -> None:
    """Kill and reap every child that is not `known`, and what it leaves, for at most SWEEP_S."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SWEEP_S):
            while strangers := [pid for pid in children() if pid not in known]:
                for pid in strangers:
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.kill(pid, signal.SIGKILL)
                reap_strangers(known)
                await asyncio.sleep(SWEEP_POLL_S)


def reap_strangers(known: Collection[int]) -> None:
    """Take the exit status of ended children that nobody in `known` is.

    Each is asked for by pid: waiting for any child would take the services' own, and stops at the
    first that it must leave alone.
    """
    for pid in children()[:STRANGERS_MAX]:
        if pid not in known:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
