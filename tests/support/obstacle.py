"""A TCP proxy that does to a connection what a bad network or a sick program does to it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from typing import TYPE_CHECKING, Literal, Self

if TYPE_CHECKING:
    from types import TracebackType

Fault = Literal["none", "slow", "black-hole", "reset", "half-open", "trickle"]

SLOW_S = 5.0
TRICKLE_S = 0.1
READ_BYTES = 65536


class Obstacle:
    """Stands before `127.0.0.1:target`, on a thread of its own; `fault` may be set at any time.

    slow: each answer comes SLOW_S late · black-hole: nothing is passed on or answered · reset: a
    connection is reset once something was asked · half-open: what is asked arrives, the answer is
    lost, nobody hangs up · trickle: the answer comes a byte each TRICKLE_S.
    """

    def __init__(self, target: int = 0) -> None:
        """Listens once the `with` is entered; `target` may be set later."""
        self.target = target
        self.fault: Fault = "none"
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._run()))

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End every connection."""
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()
        self._loop.close()

    async def _run(self) -> None:
        server = await asyncio.start_server(self._serve, sock=self._listener)
        await self._ended.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0)

    async def _serve(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(OSError, asyncio.CancelledError):
            far, on = await asyncio.open_connection("127.0.0.1", self.target)
            try:
                async with asyncio.TaskGroup() as both:
                    answers = both.create_task(self._answers(far, back))
                    await self._questions(near, on, back)
                    answers.cancel()
            finally:
                on.close()
        back.close()

    async def _questions(
        self, near: asyncio.StreamReader, on: asyncio.StreamWriter, back: asyncio.StreamWriter
    ) -> None:
        while data := await near.read(READ_BYTES):
            if self.fault == "black-hole":
                continue
            if self.fault == "reset":
                own = back.get_extra_info("socket")
                own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                back.transport.abort()
                return
            on.write(data)
            await on.drain()

    async def _answers(self, far: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        while data := await far.read(READ_BYTES):
            if self.fault == "slow":
                await asyncio.sleep(SLOW_S)
            if self.fault in {"half-open", "black-hole"}:
                continue
            step = 1 if self.fault == "trickle" else len(data)
            for at in range(0, len(data), step):
                if step == 1:
                    await asyncio.sleep(TRICKLE_S)
                back.write(data[at : at + step])
                await back.drain()
        back.close()
