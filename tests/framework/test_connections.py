"""Who may stay connected: stalling clients go, working ones never do."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Self

import pytest

from mesh.framework import connections, protocol
from mesh.framework.gate import Gate
from mesh.resilience.admission import Admission
from tests.framework.server import served

GET = b"GET /things/a HTTP/1.1\r\nHost: localhost\r\n\r\n"

POST_WITHOUT_BODY = (
    b"POST /things HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: 15\r\n\r\n"
)


@pytest.fixture
async def server(tmp_path):
    async with served(tmp_path) as found, asyncio.timeout(60):
        yield found


class Clients:
    """Connections that are closed in the end."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.open = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.open.aclose()

    async def connect(self, sent: bytes = b""):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.open.callback(writer.close)
        writer.write(sent)
        return reader, writer


async def gone(reader: asyncio.StreamReader) -> bool:
    try:
        return await reader.read(1) == b""
    except ConnectionError:
        return True


async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    writer.write(GET)
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.split(b"\r\n") if line.startswith(b"Content-Length"))
    await reader.readexactly(int(length.partition(b":")[2]))
    return head.startswith(b"HTTP/1.1 200 ")


async def until(true) -> None:
    while not true():
        await asyncio.sleep(0.001)


async def test_newcomers_are_answered_while_more_stall_than_may_connect(server, monkeypatch):
    monkeypatch.setattr(connections, "CONNECTIONS_MAX", 20)
    async with Clients(server.port) as clients:
        stalling = [await clients.connect(b"GET /things/a HT") for _ in range(50)]
        assert await answered(*await clients.connect())
        assert await gone(stalling[0][0])
        assert server.everybody.count <= 20


async def test_one_address_may_stall_with_few(server, monkeypatch):
    monkeypatch.setattr(connections, "OWING_MAX", 4)
    monkeypatch.setattr(connections, "GRACE_S", 0.0)
    async with Clients(server.port) as clients:
        asking = [await clients.connect() for _ in range(4)]
        for one in asking:
            assert await answered(*one)  # these owe nothing any more
        stalling = [await clients.connect(b"GET") for _ in range(6)]
        await until(lambda: server.everybody.count == 8)
        assert [await gone(reader) for reader, _ in stalling[:2]] == [True, True]
        assert all([await answered(*one) for one in asking])


async def test_working_connection_is_never_dropped(server, monkeypatch):
    monkeypatch.setattr(connections, "CONNECTIONS_MAX", 2)
    body = b'{"name":"lamp"}'
    head = b"POST /slow-things HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    slow = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    async with Clients(server.port) as clients:
        working = [await clients.connect(slow) for _ in range(2)]
        await until(lambda: server.shelf.slow_begun == 2)
        assert await gone((await clients.connect(GET))[0])  # there is nobody to go for it
        server.shelf.gate.set()
        for reader, _ in working:
            assert (await reader.readline()).startswith(b"HTTP/1.1 201 ")


async def test_idle_connection_makes_room_when_nobody_stalls(server, monkeypatch):
    monkeypatch.setattr(connections, "CONNECTIONS_MAX", 2)
    async with Clients(server.port) as clients:
        first, second = await clients.connect(), await clients.connect()
        assert await answered(*second)
        assert await answered(*first)
        assert await answered(*await clients.connect())
        assert await gone(second[0])  # idle for longest
        assert await answered(*first)


@pytest.mark.parametrize("sent", [b"", b"GET /things/a HT"])
async def test_head_that_does_not_come_ends_the_connection(server, monkeypatch, sent):
    monkeypatch.setattr(connections, "HEAD_S", 0.05)
    monkeypatch.setattr(connections, "SWEEP_S", 0.02)
    async with Clients(server.port) as clients:
        idle = await clients.connect()
        assert await answered(*idle)
        assert await gone((await clients.connect(sent))[0])
        assert await answered(*idle)
        await until(lambda: server.everybody.count == 1 or len(server.everybody.idle) > 1)


async def test_head_that_dribbles_ends_the_connection_too(server, monkeypatch):
    monkeypatch.setattr(connections, "HEAD_S", 0.1)
    monkeypatch.setattr(connections, "SWEEP_S", 0.02)
    async with Clients(server.port) as clients:
        reader, writer = await clients.connect()
        assert await answered(reader, writer)
        ended = asyncio.create_task(gone(reader))
        for byte in GET[:-1]:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.01)
            if ended.done():
                break
        assert await ended


async def test_client_that_does_not_read_is_let_go(server, monkeypatch):
    monkeypatch.setattr(protocol, "WRITE_S", 0.1)
    async with Clients(server.port) as clients:
        _, writer = await clients.connect()
        writer.write(3000 * GET.replace(b"/a", b"/" + 3900 * b"a"))  # beyond what sockets buffer
        await until(lambda: server.everybody.count == 1)
        await until(lambda: server.everybody.count == 0)
        assert server.app.in_flight == 0


@pytest.mark.parametrize(
    "sent",
    [b"", b"GET /things/a HT", b"\r\n\r\n\r\n", GET[:-2], POST_WITHOUT_BODY],
)
async def test_who_stalls_takes_nobodys_place_at_the_door(server, sent):
    async with Clients(server.port) as clients:
        good = await clients.connect()
        for _ in range(20):
            await clients.connect(sent)
        await until(lambda: server.everybody.count == 21)
        assert await answered(*good)
        await until(lambda: server.app.gate.admission.coming == 0)
    await until(lambda: server.everybody.count == 0)
    assert server.app.gate.admission.coming == 0


async def test_counts_come_back_to_nothing(server):
    async with Clients(server.port) as clients:
        for number in range(30):
            one = await clients.connect(b"GET" if number % 3 else b"")
            if number % 3 == 0:
                assert await answered(*one)
    await until(lambda: server.everybody.count == 0)
    assert (server.everybody._owing, server.everybody.idle) == ({}, {})


async def test_those_who_come_in_one_round_of_the_loop_are_counted_at_the_door(server):
    server.app.gate = Gate(Admission(places_max=1, waiting_max=4, wait_s=5.0))
    async with Clients(server.port) as clients:
        working = asyncio.create_task(server.ask("POST", "/slow-things", {"name": "a"}))
        await server.shelf.entered.wait()
        crowd = [await clients.connect() for _ in range(30)]
        await until(lambda: server.everybody.count == 31)
        for _, writer in crowd:
            writer.write(GET)
        await until(lambda: server.app.gate.admission.shed == 26)
        refused = server.pages._metrics.text().decode()
        assert 'mesh_requests_total{operation="other",status="503"} 26.0' in refused
        server.shelf.gate.set()
        assert (await working).status == 201
