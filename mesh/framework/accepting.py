"""Letting newcomers in: all that wait, each time the event loop comes round.

uvloop accepts one a turn (libuv since 1.45). A busy loop turns some fifty times a second, and the
hundredth of those who come at once would wait for two seconds, unseen by admission, just to be refused.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from mesh import telemetry

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

ACCEPTS_MAX = 64
"""In one turn, for those who are in already; the backlog holds the others."""

PAUSE_S = 0.1
"""After a failure that lasts, such as no descriptor left: the listener stays readable all the time."""

log = telemetry.logger("framework.accepting")


class Site:
    """A listening socket, and what speaks with each who comes."""

    def __init__(self, listener: socket.socket, make: Callable[[], asyncio.Protocol]) -> None:
        """Nobody is accepted yet. `listener` listens, does not block, and is closed by `stop`."""
        self._listener = listener
        self._make = make
        self._entering: set[asyncio.Task[object]] = set()
        self._paused: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Accept from now on."""
        self._resume()

    async def stop(self) -> None:
        """Accept nobody any more; returns once everybody accepted is spoken with. Idempotent."""
        if self._paused is not None:
            self._paused.cancel()
        if self._listener.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
        if self._entering:
            await asyncio.wait(self._entering)

    def _resume(self) -> None:
        self._paused = None
        asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(ACCEPTS_MAX):
            try:
                newcomer, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionError:  # gone before we came
                continue
            except OSError as error:
                log.warning("nobody can be accepted", extra=telemetry.facts(why=str(error)))
                loop.remove_reader(self._listener)
                self._paused = loop.call_later(PAUSE_S, self._resume)
                return
            task = loop.create_task(loop.connect_accepted_socket(self._make, newcomer))
            self._entering.add(task)
            task.add_done_callback(self._entering.discard)
