"""A server that ends cuts nobody off who is about to ask, and waits for nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest
from aiohttp import web

from mesh import clock
from mesh.framework import drain
from mesh.framework.accepting import Site
from mesh.framework.app import HEADER_BYTES_MAX, LINE_BYTES_MAX
from tests.framework.server import served

REQUEST = b"GET /things/a HTTP/1.1\r\nHost: localhost\r\n\r\n"
PAGE = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Draining:
    """A server as a service's process sets it up, and clients on connections of their own."""

    def __init__(self, app) -> None:
        self.app = app
        self.server = drain.Server(
            app, line_bytes_max=LINE_BYTES_MAX, header_bytes_max=HEADER_BYTES_MAX
        )
        self.runner = web.ServerRunner(self.server, handle_signals=False, shutdown_timeout=1.0)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.socket.setblocking(False)
        self.clients = contextlib.AsyncExitStack()

    async def begin(self) -> None:
        await self.runner.setup()
        self.site = Site(self.runner, self.socket)
        await self.site.start()

    async def connect(self):
        """A connection that the server has accepted."""
        before = len(self.server.connections)
        reader, writer = await asyncio.open_connection(*self.socket.getsockname())
        self.clients.callback(writer.close)
        async with asyncio.timeout(5):
            while len(self.server.connections) == before:
                await asyncio.sleep(0.001)
        return reader, writer

    async def end(self) -> float:
        """As the process does on SIGTERM; seconds it took."""
        begun_s = clock.monotonic_s()
        await self.site.stop()
        await self.server.linger()
        await self.runner.cleanup()
        return clock.monotonic_s() - begun_s


async def ask(connection, request: bytes = REQUEST) -> tuple[str, bool]:
    """The status line, and whether this was said to be the last answer."""
    reader, writer = connection
    writer.write(request)
    async with asyncio.timeout(5):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next(line for line in head.splitlines() if line.startswith("Content-Length"))
        await reader.readexactly(int(length.partition(":")[2]))
    return head.splitlines()[0], "connection: close" in head.lower()


@pytest.fixture
async def draining(tmp_path):
    async with served(tmp_path) as server:
        found = Draining(server.app)
        await found.begin()
        async with found.clients:
            yield found
        await found.runner.cleanup()


async def test_those_about_to_ask_are_answered_for_the_last_time(draining, monkeypatch):
    monkeypatch.setattr(drain, "QUIET_S", 30.0)
    monkeypatch.setattr(drain, "LINGER_MAX_S", 30.0)
    used, untouched, page = [await draining.connect() for _ in range(3)]
    assert await ask(used) == ("HTTP/1.1 200 OK", False)
    ending = asyncio.ensure_future(draining.end())
    while not draining.app.draining:
        await asyncio.sleep(0)
    assert await ask(used) == ("HTTP/1.1 200 OK", True)
    assert await ask(untouched) == ("HTTP/1.1 200 OK", True)
    assert await ask(page, PAGE) == ("HTTP/1.1 200 OK", True)
    assert await used[0].read() == b""
    assert await ending < 5.0


async def test_nobody_is_waited_for_when_nothing_was_asked_lately(draining, monkeypatch):
    monkeypatch.setattr(drain, "LINGER_MAX_S", 30.0)
    monkeypatch.setattr(drain, "QUIET_S", 0.05)
    idle = await draining.connect()
    await ask(idle)
    await asyncio.sleep(0.05)  # the quiet time itself
    assert await draining.end() < 5.0
    assert await idle[0].read() == b""


async def test_silent_clients_delay_the_end_by_a_bounded_time(draining, monkeypatch):
    monkeypatch.setattr(drain, "QUIET_S", 30.0)
    monkeypatch.setattr(drain, "LINGER_MAX_S", 0.05)
    await draining.connect()
    assert 0.05 <= await draining.end() < 5.0


async def test_server_without_clients_ends_at_once(draining, monkeypatch):
    monkeypatch.setattr(drain, "QUIET_S", 30.0)
    monkeypatch.setattr(drain, "LINGER_MAX_S", 30.0)
    assert await draining.end() < 5.0
