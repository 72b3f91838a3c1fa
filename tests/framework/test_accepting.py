"""Newcomers are let in as they come, whatever the loop is busy with, and none is forgotten."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
from dataclasses import dataclass

import pytest
import uvloop

from mesh.framework import accepting
from mesh.framework.accepting import ACCEPTS_MAX, Site


@dataclass
class Listening:
    """A site, who it has let in, and clients that have connected."""

    here: set[asyncio.Protocol]
    site: Site
    address: tuple[str, int]
    clients: contextlib.ExitStack

    def connect(self, count: int) -> None:
        """The kernel answers them: the loop has no turn meanwhile."""
        for _ in range(count):
            self.clients.enter_context(socket.create_connection(self.address))

    async def turns_until(self, count: int) -> int:
        """How often the loop comes round until the server knows so many connections."""
        turns = 0
        while len(self.here) < count:
            await asyncio.sleep(0)
            turns += 1
        return turns


class Guest(asyncio.Protocol):
    """Somebody who was let in."""

    def __init__(self, here: set[asyncio.Protocol]) -> None:
        self._here = here

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._here.add(self)
        self._transport = transport

    def connection_lost(self, _exc: BaseException | None) -> None:
        self._here.discard(self)


@contextlib.asynccontextmanager
async def listening():
    here: set[asyncio.Protocol] = set()
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    listener.setblocking(False)
    address = listener.getsockname()
    site = Site(listener, lambda: Guest(here))
    site.start()
    with contextlib.ExitStack() as clients:
        try:
            async with asyncio.timeout(60):
                yield Listening(here, site, address, clients)
        finally:
            await site.stop()


def on_uvloop(main) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def test_all_who_wait_are_let_in_at_once():
    async def main():
        async with listening() as found:
            found.connect(200)
            assert await found.turns_until(200) <= 200 / ACCEPTS_MAX + 6

    on_uvloop(main)


@pytest.mark.parametrize("turns", range(6))
def test_who_was_accepted_is_known_once_it_has_stopped(turns):
    async def main():
        async with listening() as found:
            found.connect(2 * ACCEPTS_MAX)
            for _ in range(turns):
                await asyncio.sleep(0)
            await found.site.stop()
            known = len(found.here)
            await asyncio.sleep(0.05)
            assert len(found.here) == known
            assert known in {0, ACCEPTS_MAX, 2 * ACCEPTS_MAX}

    on_uvloop(main)


def test_where_no_descriptor_is_left_it_comes_again_later(caplog, monkeypatch):
    monkeypatch.setattr(accepting, "PAUSE_S", 0.05)

    async def main():
        async with listening() as found:
            found.connect(1)
            before = resource.getrlimit(resource.RLIMIT_NOFILE)
            with socket.socket() as next_one:
                free = next_one.fileno()
            resource.setrlimit(resource.RLIMIT_NOFILE, (free, before[1]))
            try:
                await asyncio.sleep(0.22)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, before)
            assert not found.here
            assert 1 <= len(caplog.records) <= 5  # it does not spin
            await found.turns_until(1)

    on_uvloop(main)
