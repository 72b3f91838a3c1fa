"""The programs' ports on the loopback address: bound once, held for as long as the mesh runs.

A port that is held can neither be stolen in the moment between two lives of a program nor refuse
a caller then: connections wait in the backlog. Who should not be called is refused at once.
SO_REUSEPORT is never used: it would let any process of this user take a share of the calls.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from typing import TYPE_CHECKING

from mesh.errors import PortTaken
from mesh.orchestrator.plan import HOST

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

BACKLOG = 256
"""Connections that wait for a program to come back; more are slowed down by the kernel."""


class Listener:
    """One program's port.

    Args:
        number: 0 for any free one, known once bound.
        shared: this socket listens and is handed to the program; else it only reserves the port
            and the program listens itself (which needs SO_REUSEADDR, as servers set it).
    """

    def __init__(self, name: str, number: int, *, shared: bool) -> None:
        """Nothing is bound yet."""
        self.name = name
        self.number = number
        self.shared = shared
        self._socket: socket.socket | None = None
        self._listening = False

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://{HOST}:{self.number}"

    def bind(self) -> None:
        """Take the port. Raises: PortTaken, which names its holder."""
        if self._socket is not None:
            return
        first = _bound(self.name, self.number, fresh=self.number == 0)
        if self.number == 0:
            # A port bound as 0 would be given up when the listener is shut down: bind its number.
            self.number = first.getsockname()[1]
            first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with first:
                self._socket = _bound(self.name, self.number, fresh=False)
        else:
            self._socket = first

    def open(self) -> int | None:
        """Let callers in, or rather queue. Returns the descriptor to hand over, if it is shared.

        Raises: PortTaken when another process listens there by now.
        """
        self.bind()
        assert self._socket is not None
        if not self.shared:
            return None
        if not self._listening:
            try:
                self._socket.listen(BACKLOG)
            except OSError as error:
                raise _taken(self.name, self.number, error) from None
            self._listening = True
        return self._socket.fileno()

    def refuse(self) -> None:
        """Turn callers away, those that wait included; the number stays ours."""
        if self._socket is not None and self._listening:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            self._listening = False

    def close(self) -> None:
        """Give the port back."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
            self._listening = False


@contextlib.contextmanager
def held(listeners: Iterable[Listener], started: Iterable[str]) -> Iterator[None]:
    """Bind what has to be known or is to be started, listen for the latter; closes all at the end.

    Raises: PortTaken, for all that are taken at once; then none is held.
    """
    listeners, started = list(listeners), set(started)
    taken = []
    with contextlib.ExitStack() as stack:
        for listener in listeners:
            stack.callback(listener.close)
            try:
                if listener.name in started:
                    listener.open()
                elif listener.number == 0:
                    listener.bind()
            except PortTaken as error:
                taken.append(error)
        if len(taken) == 1:
            raise taken[0]
        if taken:
            raise PortTaken(
                "; ".join(error.detail for error in taken),
                hint=taken[0].hint,
                ports=[error.facts["port"] for error in taken],
            )
        yield


def _bound(name: str, number: int, *, fresh: bool) -> socket.socket:
    """A bound socket; a fresh one never shares its number with a port that others reserved."""
    made = socket.socket()
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(not fresh))
        made.bind((HOST, number))
    except OSError as error:
        made.close()
        raise _taken(name, number, error) from None
    return made


def _taken(name: str, number: int, error: OSError) -> PortTaken:
    if error.errno != errno.EADDRINUSE:
        return PortTaken(f"port {number} of {name} cannot be bound: {error.strerror}", port=number)
    pid, command = next(iter(holders(number)), (None, ""))
    by = f"pid {pid} ({command})" if pid else "another program"
    return PortTaken(
        f"port {number} of {name} is taken by {by}",
        hint="mesh up --free-ports",
        service=name,
        port=number,
        pid=pid,
    )


def holders(number: int) -> list[tuple[int, str]]:
    """Who listens there: pid and command line of each; other users' processes are not ours to see.

    Takes tens of milliseconds: every process is looked at.
    """
    import psutil  # noqa: PLC0415  # 20 ms that only the curious and the failing case pay

    found: dict[int, str] = {}
    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            pid, place = connection.pid, connection.laddr
            if pid and place and place.port == number and connection.status == psutil.CONN_LISTEN:
                with contextlib.suppress(psutil.Error):
                    found[pid] = " ".join(psutil.Process(pid).cmdline())
    return list(found.items())
