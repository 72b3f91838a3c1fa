"""A server that ends cuts nobody off who is about to ask, and waits for nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest

from mesh import clock
from mesh.framework import drain
from tests.framework.server import served

REQUEST = b"GET /things/a HTTP/1.1\r\nHost: localhost\r\n\r\n"
PAGE = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Draining:
    """A server as a service's process sets it up, and clients on connections of their own."""

    def __init__(self, app, shelf) -> None:
        self.app = app
        self.shelf = shelf
        self.server = drain.Server(app)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.socket.setblocking(False)
        self.clients = contextlib.AsyncExitStack()

    async def begin(self) -> None:
        self.server.listen(self.socket)

    async def connect(self):
        """A connection that the server has accepted."""
        before = self.server.everybody.count
        reader, writer = await asyncio.open_connection(*self.socket.getsockname())
        self.clients.callback(writer.close)
        async with asyncio.timeout(60):
            while self.server.everybody.count == before:
                await asyncio.sleep(0.001)
        return reader, writer

    async def end(self) -> float:
        """As the process does on SIGTERM; seconds it took."""
        begun_s = clock.monotonic_s()
        await self.server.refuse()
        await self.server.linger()
        await self.server.end(1.0)
        return clock.monotonic_s() - begun_s


async def ask(connection, request: bytes = REQUEST) -> tuple[str, bool]:
    """The status line, and whether this was said to be the last answer."""
    reader, writer = connection
    writer.write(request)
    async with asyncio.timeout(60):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next(line for line in head.splitlines() if line.startswith("Content-Length"))
        await reader.readexactly(int(length.partition(":")[2]))
    return head.splitlines()[0], "connection: close" in head.lower()


@pytest.fixture
async def draining(tmp_path):
    async with served(tmp_path) as server:
        found = Draining(server.app, server.shelf)
        await found.begin()
        async with found.clients:
            yield found
        await found.server.end(1.0)


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


SLOW = (
    b"POST /slow-things HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b'Content-Length: 15\r\n\r\n{"name":"lamp"}'
)


async def test_what_is_at_work_when_the_server_ends_is_answered(draining):
    reader, writer = await draining.connect()
    writer.write(SLOW)
    await draining.shelf.entered.wait()
    ending = asyncio.create_task(draining.server.end(5.0))
    await asyncio.sleep(0.02)
    draining.shelf.gate.set()
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 201 ")
    assert (await reader.read()).startswith(b'{"id":')
    await ending


async def test_what_takes_too_long_when_the_server_ends_is_broken_off(draining):
    reader, writer = await draining.connect()
    writer.write(SLOW)
    await draining.shelf.entered.wait()
    await draining.server.end(0.05)
    assert await reader.read() == b""
    assert draining.app.in_flight == 0


async def test_body_that_is_on_its_way_when_the_server_ends_is_taken(draining):
    reader, writer = await draining.connect()
    writer.write(SLOW[:-5])
    while not draining.app.in_flight:
        await asyncio.sleep(0.001)
    draining.shelf.gate.set()
    ending = asyncio.create_task(draining.server.end(5.0))
    await asyncio.sleep(0.02)
    writer.write(SLOW[-5:])
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 201 ")
    assert b"\r\nConnection: close\r\n" in head
    await ending
