"""Bodies that are long in coming hold a connection, never a place of somebody else's."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from mesh import clock
from mesh.framework import reading
from mesh.framework.gate import Gate
from mesh.resilience.admission import Admission
from tests.framework.server import served

HEAD = (
    b"POST /open-things HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: 15\r\n\r\n"
)


@pytest.fixture
async def server(tmp_path):
    async with served(tmp_path) as found:
        yield found


@contextlib.asynccontextmanager
async def begun(server, count: int, head: bytes = HEAD):
    """So many requests whose bodies do not come."""
    open_now = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(count)]
    try:
        for _, writer in open_now:
            writer.write(head + b'{"name"')
        async with asyncio.timeout(60):
            while server.app.requests_begun < count:
                await asyncio.sleep(0.001)
        yield open_now
    finally:
        for _, writer in open_now:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


async def test_others_are_answered_while_more_bodies_stall_than_there_are_places(
    tmp_path,
):
    async with served(tmp_path) as server, begun(server, 5):
        server.app.gate = Gate(Admission(places_max=2))
        assert (await server.ask("GET", "/things/a")).status == 200
        assert (await server.ask("POST", "/open-things", {"name": "lamp"})).status == 201


async def test_body_is_taken_when_its_rest_comes_late(server):
    async with begun(server, 1) as [(reader, writer)]:
        writer.write(b':"lamp"}')
        assert (await reader.readline()).startswith(b"HTTP/1.1 201 ")


async def test_stalled_body_is_refused_as_the_senders_fault(server, monkeypatch):
    monkeypatch.setattr(reading, "BODY_S", 0.05)
    async with begun(server, 1) as [(reader, _)]:
        async with asyncio.timeout(60):
            assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")
            assert b"/problems/body-timeout" in await reader.read(4096)


async def test_further_slow_body_is_shed_when_many_are_on_their_way(server, monkeypatch):
    monkeypatch.setattr(reading, "READING_MAX", 3)
    monkeypatch.setattr(reading, "BODY_S", 60.0)
    async with begun(server, 3), begun(server, 4) as more:
        answers = [await reader.readline() for reader, _ in more[-1:]]
        assert answers[0].startswith(b"HTTP/1.1 503 ")
        assert (await server.ask("GET", "/things/a")).status == 200


async def test_nothing_is_done_when_the_body_comes_after_the_deadline(server):
    head = HEAD.replace(b"\r\n\r\n", b"\r\nMesh-Timeout: 20\r\n\r\n")
    async with begun(server, 1, head) as [(reader, writer)]:
        until_s = clock.monotonic_s() + 0.02
        while clock.monotonic_s() < until_s:
            await asyncio.sleep(0.001)
        writer.write(b':"lamp"}')
        assert (await reader.readline()).startswith(b"HTTP/1.1 504 ")
    assert server.shelf.made == []


async def test_sender_that_goes_away_leaves_nothing_behind(server):
    async with begun(server, 3):
        assert server.app.in_flight == 3
    async with asyncio.timeout(60):
        while server.app.in_flight:
            await asyncio.sleep(0.001)
    assert (await server.ask("GET", "/things/a")).status == 200
