"""One ZeroMQ socket on the event loop, by its descriptor and without waiting calls.

The descriptor is edge-triggered: it tells that something happened, once, and a send may swallow
that word. So after it fires, and after every send, the socket is drained until it holds nothing, a
bounded number of messages at a time. (`zmq.asyncio` moves a tenth of this, and a cancelled receive
there can lose a message.)
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import zmq

from mesh import telemetry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DRAIN_MAX = 64
"""Messages taken in one turn of the loop, so that no socket starves the others."""

_EVENTS, _POLLIN = int(zmq.EVENTS), int(zmq.POLLIN)
_NOBLOCK, _SNDMORE = int(zmq.NOBLOCK), int(zmq.NOBLOCK | zmq.SNDMORE)
"""As plain numbers: pyzmq's enumerations cost more than a message, whole messages (`send_multipart`)
thrice as much as their frames. Asking by the attribute takes three times as long, an `Again` four
times."""

_log = telemetry.logger("bus")


class Pump:
    """Hands every message to `received`, and says `drained` after each turn that took some."""

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        received: Callable[[list[bytes]], None],
        drained: Callable[[], None] | None = None,
    ) -> None:
        """Start at once, on the running loop."""
        self._socket = socket
        self._received = received
        self._drained = drained
        self._loop = asyncio.get_running_loop()
        self._due = False
        self._paused = False
        self._ask = cast("Callable[[int], int]", socket.get)
        self._fd = socket.FD
        self._loop.add_reader(self._fd, self._turn)
        self._again()

    def send(self, frames: Sequence[bytes]) -> bool:
        """Send without waiting; False if it cannot be taken now, or its address is unknown."""
        if self._socket.closed:
            return False
        try:
            for frame in frames[:-1]:
                self._socket.send(frame, _SNDMORE)
            self._socket.send(frames[-1], _NOBLOCK)
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            return False
        finally:
            self._again()
        return True

    def pause(self) -> None:
        """Leave what arrives in the socket, whose own bound then holds back the peers."""
        self._paused = True

    def resume(self) -> None:
        """Take up what has waited. Idempotent."""
        if self._paused:
            self._paused = False
            self._again()

    def close(self) -> None:
        """Stop, and close the socket without lingering. Idempotent."""
        if not self._socket.closed:
            self._loop.remove_reader(self._fd)
            self._socket.close(linger=0)

    def _again(self) -> None:
        if not self._due:
            self._due = True
            self._loop.call_soon(self._turn)

    def _stopped(self) -> bool:
        return self._paused or self._socket.closed

    def _turn(self) -> None:
        self._due = False
        taken = 0
        while not self._stopped() and self._ask(_EVENTS) & _POLLIN:
            if taken == DRAIN_MAX:
                self._again()
                break
            try:
                frames = _receive(self._socket)
            except zmq.Again:
                break
            taken += 1
            try:
                self._received(frames)
            except Exception:  # noqa: BLE001  the descriptor would never fire again
                _log.exception("a message of the bus was dropped")
        if taken and self._drained is not None:
            self._drained()


def _receive(socket: zmq.Socket[bytes]) -> list[bytes]:
    """One message: it comes whole or not at all. Raises: zmq.Again."""
    frame = socket.recv(_NOBLOCK, copy=False)
    frames = [frame.bytes]
    while frame.more:
        frame = socket.recv(_NOBLOCK, copy=False)
        frames.append(frame.bytes)
    return frames
