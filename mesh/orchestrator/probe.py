"""Health questions put to a program from outside: does it answer?

For programs that do not say READY=1 themselves. A question is asked again until it is answered,
and never longer than the program may take to start; that bound is kept by whoever asks.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from mesh.config import Healthcheck
from mesh.errors import ConfigInvalid
from mesh.orchestrator.plan import HOST

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mesh.orchestrator.contract import Program

AGAIN_S = 0.02
"""Between two questions while a program starts: a refused connection costs microseconds."""

_STATUS_BYTES_MAX = 1024
"""More than any status line; the rest of an answer is not read."""


def question(program: Program) -> Healthcheck | None:
    """How to find out whether `program` is ready; None if it says so, or is once it runs."""
    if program.health is not None:
        return program.health
    if program.entry is None and program.port is not None and program.socket == "own":
        return Healthcheck(test=("tcp",))
    return None


def check(programs: Iterable[Program]) -> None:
    """Refuse questions that nobody here can ask.

    Raises: ConfigInvalid with every complaint.
    """
    complaints = tuple(
        f"{program.name}: healthcheck {asked.test[0]} is not known here; use http or tcp"
        if asked.test[0] not in {"http", "tcp"}
        else f"{program.name}: healthcheck {asked.test[0]} needs a port"
        for program in programs
        if (asked := program.health) is not None
        if asked.test[0] not in {"http", "tcp"} or program.port is None
    )
    if complaints:
        raise ConfigInvalid(complaints)


async def answered(asked: Healthcheck, port: int) -> None:
    """Return as soon as the question is answered well.

    Cancellation: between or amid questions; nothing stays open.
    """
    while True:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(asked.timeout_s):
                if await _ask(asked, port):
                    return
        await asyncio.sleep(AGAIN_S)


async def _ask(asked: Healthcheck, port: int) -> bool:
    reader, writer = await asyncio.open_connection(HOST, port, limit=_STATUS_BYTES_MAX)
    try:
        if asked.test[0] == "tcp":
            return True
        head = f"GET {asked.test[1]} HTTP/1.1\r\nHost: {HOST}:{port}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode())
        words = (await reader.read(_STATUS_BYTES_MAX)).split(maxsplit=2)
        return len(words) > 1 and words[0].startswith(b"HTTP/1.") and words[1].startswith(b"2")
    finally:
        writer.transport.abort()
