"""Asking where the connection itself is the trouble: dropped, never taken, used up, in pieces."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from msgspec import Struct

from mesh import client as asking
from mesh import clock, telemetry
from mesh.client import Call, Client, Envelope
from mesh.errors import ServiceUnavailable
from mesh.resilience.policy import RETRIES_MAX, Policy
from tests.framework.server import listening

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

TRIES = RETRIES_MAX + 1


class Thing(Struct, frozen=True):
    id: str


class Seen(Struct, frozen=True):
    ok: bool


GET = Call("peer", "GET /things/{id}", Thing, Seen)
PUT = Call("peer", "PUT /things/{id}", Thing, Seen)
DELETE = Call("peer", "DELETE /things/{id}", Thing, Seen)
POST = Call("peer", "POST /things/{id}", Thing, Seen)


@contextlib.asynccontextmanager
async def client_of(port: int) -> AsyncIterator[Client]:
    made = Client({"peer": f"http://127.0.0.1:{port}"}, lambda _: "token")
    try:
        yield made
    finally:
        await made.close()


@contextlib.asynccontextmanager
async def asked(
    answer: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
) -> AsyncIterator[Client]:
    async with listening(answer) as port, client_of(port) as client:
        yield client


def envelope(left_s: float = 5.0) -> Envelope:
    return Envelope(trace=telemetry.new_trace(), deadline_s=clock.monotonic_s() + left_s)


@pytest.mark.parametrize("call", [GET, PUT, DELETE], ids=lambda call: call.route.split()[0])
async def test_request_is_sent_no_oftener_than_we_say_when_its_connection_is_dropped(call):
    came = 0

    async def drop(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal came
        came += 1
        request.transport.abort()
        return web.Response()

    async with asked(drop) as client:
        with pytest.raises(ServiceUnavailable):
            await client.ask(call, Thing("a"), envelope())
    assert came == TRIES


async def test_request_is_sent_again_when_a_kept_connection_was_closed_meanwhile():
    """As after a restart of the peer, when nothing has told us yet."""
    transports = []

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        transports.append(request.transport)
        if len(transports) == 2:
            request.transport.abort()
        return web.json_response({"ok": True})

    async with asked(answer) as client:
        for _ in range(2):
            assert await client.ask(GET, Thing("a"), envelope()) == Seen(ok=True)
    assert transports[0] is transports[1]
    assert len(transports) == 3


async def test_answer_is_read_to_its_end_when_its_pieces_come_apart():
    async def halves(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = 11
        await response.prepare(request)
        await response.write(b'{"ok":')
        await asyncio.sleep(0.02)
        await response.write(b"true}")
        return response

    async with asked(halves) as client:
        assert await client.ask(POST, Thing("a"), envelope()) == Seen(ok=True)


async def test_peer_that_takes_no_connection_is_unavailable_since_nothing_was_asked(monkeypatch):
    """Its backlog is full, as that of a frozen process: the kernel drops what comes."""
    monkeypatch.setattr(asking, "CONNECT_S", 0.05)
    with contextlib.ExitStack() as sockets:
        full = sockets.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            other = sockets.enter_context(socket.socket())
            other.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                other.connect(full.getsockname())
        begun_s = clock.monotonic_s()
        async with client_of(full.getsockname()[1]) as client:
            with pytest.raises(ServiceUnavailable):
                await client.ask(POST, Thing("a"), envelope())
        assert clock.monotonic_s() - begun_s < 0.5


async def test_slow_peer_gets_no_more_connections_than_the_bound():
    few = Call("peer", "GET /things/{id}", Thing, Seen, Policy(connections_max=3))
    go_on = asyncio.Event()
    now = most = 0

    async def slow(_: web.BaseRequest) -> web.StreamResponse:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await go_on.wait()
        now -= 1
        return web.json_response({"ok": True})

    async with asked(slow) as client, asyncio.TaskGroup() as group:
        asking_now = [group.create_task(client.ask(few, Thing("a"), envelope())) for _ in range(9)]
        async with asyncio.timeout(60):
            while now < 3:
                await asyncio.sleep(0.001)
        go_on.set()
        assert await asyncio.gather(*asking_now) == [Seen(ok=True)] * 9
    assert most == 3
