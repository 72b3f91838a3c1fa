"""One request and its answer over sockets that are kept: what ends an answer, what ends a connection."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from typing import TYPE_CHECKING

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_parser import HttpResponseParser

from mesh import exchange
from mesh.exchange import ANSWER_BYTES_MAX, Pool, UnreachableError, plain
from mesh.framework.reply import Reply

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ASKED = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
TRACE = {"traceparent": f"00-{1:032x}-{1:016x}-01"}
OURS = Reply(201, b"ok", {"ETag": '"1"', **TRACE}).written()
ODD = OK.replace(b"OK\r\n", b"OK\r\nServer: x\r\n")
HANG, HANG_UP = b"", None


class Peer:
    """Answers each request, of any connection, with the next of `answers`, byte by byte if `slowly`."""

    def __init__(self) -> None:
        self.answers: list[bytes | None] = []
        self.connections = 0
        self.open = 0
        self.writers: list[asyncio.StreamWriter] = []
        self.slowly = False
        self.pool: Pool

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        self.writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                answer = self.answers.pop(0) if self.answers else OK
                if answer is HANG_UP:
                    break
                for piece in [bytes([each]) for each in answer] if self.slowly else [answer]:
                    writer.write(piece)
                    await writer.drain()
                    if self.slowly:
                        await asyncio.sleep(0)
                if answer.endswith(HUNG_UP):
                    break
        self.open -= 1
        writer.close()

    async def ask(self, left_s: float = 5.0) -> exchange.Answer:
        # A collection in this process may take longer than a service allows a connection.
        return await self.pool.exchange(ASKED, left_s, left_s)


HUNG_UP = b"the end"
"""After an answer that ends so the peer hangs up."""


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    found = Peer()
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    async with server:
        found.pool = Pool(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", 2)
        try:
            yield found
        finally:
            found.pool.close()
            while found.open:
                await asyncio.sleep(0.001)


@pytest.mark.parametrize("slowly", [False, True])
@pytest.mark.parametrize(
    ("raw", "status", "body"),
    [
        (OK, 200, b"ok"),
        (ODD, 200, b"ok"),
        (OURS, 201, b"ok"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, b""),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n",
            200,
            b"ok",
        ),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, 200, b"ok"),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK, 200, b"ok"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nok", 200, b"ok"),
    ],
)
async def test_answer_ends_where_it_says_and_its_connection_is_used_again(
    peer, raw, status, body, slowly
):
    peer.slowly, peer.answers = slowly, [raw, raw]
    for _ in range(2):
        answer = await peer.ask()
        assert (answer.status, answer.body) == (status, body)
    assert peer.connections == 1


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        OK + OK,
        ODD + ODD,
    ],
)
async def test_connection_is_not_used_again_when_it_is_over_or_more_came_than_was_asked(peer, raw):
    peer.answers = [raw]
    with contextlib.suppress(OSError):
        assert (await peer.ask()).body == b"ok"
    assert (await peer.ask()).body == b"ok"
    assert peer.connections == 2


@pytest.mark.parametrize("body", [b"", b"{}", b"x" * 100_000])
@pytest.mark.parametrize("beside", [{}, {"ETag": '"1"'}, {"Location": "/a"}, {"ETag": '"a.1"'}])
@pytest.mark.parametrize("status", [200, 201, 202])
def test_good_answers_of_our_services_need_no_parser(status, beside, body):
    found = plain(Reply(status, body, {**beside, **TRACE}).written())
    assert found == (status, {}, body)


STATUSES = b"1.1 200 OK,1.1 202 ,1.1 204 No,1.1 205 No,1.1 304 No,1.1 404 No,1.0 200 OK,1.1 200,1.1 2000 OK"
LENGTHS = b"3,03,+3,3 ,\t3,2,0,7,3;x,0x3,-1,9999999"
LINES = b"""
Date: now
ETag: \xff
ETag : 1
ETag:1
 folded
Transfer-Encoding: chunked
transfer-encoding: chunked
Connection: close
Connection: upgrade
Upgrade: x
Content-Length: 3
Content-Length: 7
content-length: 7
ETag: 1\rConnection: close
Date: 1\x00""".split(b"\n")


async def test_what_needs_no_parser_is_what_a_parser_would_read():
    loop, seen = asyncio.get_running_loop(), 0
    heads = itertools.product(STATUSES.split(b","), LINES, LENGTHS.split(b","), LINES)
    for status, before, length, after in heads:
        lines = b"\r\n".join(filter(None, (before, b"Content-Length: " + length, after)))
        raw = b"HTTP/%b\r\n%b\r\n\r\n1\r\n" % (status, lines)
        found = plain(raw)
        if found is None:
            continue
        seen += 1
        parser = HttpResponseParser(BaseProtocol(loop), loop, 2**16, read_until_eof=True)
        ((head, body),), upgraded, behind = parser.feed_data(raw)
        assert (head.code, body.is_eof(), body.read_nowait(-1)) == (found.status, True, found.body)
        assert [head.should_close, head.chunked, upgraded, behind] == [False, False, False, b""], (
            raw
        )
    assert seen == 2 * 4  # two statuses, with and without a date on either side


async def test_answer_without_a_length_ends_with_its_connection(peer):
    peer.answers = [b"HTTP/1.1 200 OK\r\n\r\n" + HUNG_UP]
    assert (await peer.ask()).body == HUNG_UP
    assert (await peer.ask()).body == b"ok"


@pytest.mark.parametrize(
    "raw",
    [
        HANG_UP,
        b"HTTP/1.1 200 OK\r\nContent-Length: 70\r\n\r\n" + HUNG_UP,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n" + HUNG_UP,
        b"HTTP/1.1 200 OK\r\nX: " + HUNG_UP,
        b"SSH-2.0 " + HUNG_UP,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (2 * ANSWER_BYTES_MAX)
        + b"x" * (ANSWER_BYTES_MAX + 1),
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 10_000 + b"\r\n\r\n",
    ],
)
async def test_answer_that_is_none_is_an_error_and_ends_its_connection(peer, raw):
    peer.answers = [raw]
    with pytest.raises(OSError, match=r"\w") as caught:
        await peer.ask()
    assert not isinstance(caught.value, TimeoutError | UnreachableError)
    assert (await peer.ask()).body == b"ok"
    assert peer.connections == 2


@pytest.mark.parametrize("begun", [HANG, OK[:-1], OK[:20], ODD[:-1]])
async def test_time_holds_and_what_comes_too_late_is_nobodys_answer(peer, begun):
    peer.answers = [begun]
    with pytest.raises(TimeoutError):
        await peer.ask(0.05)
    assert (await peer.ask()).body == b"ok"
    assert peer.connections == 2


async def test_who_gives_up_leaves_no_answer_behind_for_the_next(peer):
    peer.answers = [HANG]
    asking = asyncio.create_task(peer.ask())
    while not peer.connections:
        await asyncio.sleep(0.001)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert (await peer.ask()).body == b"ok"
    assert peer.connections == 2


async def test_connection_that_was_idle_for_long_is_not_used(peer, monkeypatch):
    await peer.ask()
    monkeypatch.setattr(exchange, "KEPT_S", 0.0)
    await peer.ask()
    assert peer.connections == 2
    while peer.open > 1:
        await asyncio.sleep(0.001)


async def test_whoever_waits_for_a_connection_waits_no_longer_than_their_time(peer):
    peer.answers = [HANG, HANG]
    holding = [asyncio.create_task(peer.ask()) for _ in range(2)]
    while peer.connections < 2:
        await asyncio.sleep(0.001)
    with pytest.raises(TimeoutError):
        await peer.ask(0.05)
    waiting = asyncio.create_task(peer.ask())
    await asyncio.sleep(0)
    for each in holding:
        each.cancel()
    assert (await waiting).body == b"ok"
    assert (await peer.ask()).body == b"ok"


async def test_time_spent_waiting_for_a_connection_is_not_to_be_had_again(peer, monkeypatch):
    now_s = 100.0
    monkeypatch.setattr(exchange.clock, "monotonic_s", lambda: now_s)
    peer.answers = [OK[:-1], OK[:-1], HANG]
    holding = [asyncio.create_task(peer.ask()) for _ in range(2)]
    while len(peer.writers) < 2 or peer.answers[0] is not HANG:
        await asyncio.sleep(0.001)
    waiting = asyncio.create_task(peer.ask(60.0))
    await asyncio.sleep(0)
    now_s += 59.9
    for writer in peer.writers:  # and both connections are kept
        writer.write(OK[-1:])
    async with asyncio.timeout(60):
        with pytest.raises(TimeoutError):
            await waiting
    await asyncio.gather(*holding)


async def test_turn_is_passed_on_by_whoever_was_cancelled_with_it(peer):
    peer.answers = [HANG, HANG]
    holding = [asyncio.create_task(peer.ask()) for _ in range(2)]
    while peer.connections < 2:
        await asyncio.sleep(0.001)
    first, second = [asyncio.create_task(peer.ask()) for _ in range(2)]
    await asyncio.sleep(0)
    holding[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await holding[0]
    first.cancel()  # it has been given the turn and has not run since
    assert (await second).body == b"ok"
    holding[1].cancel()


async def test_nobody_listening_is_unreachable():
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    with pytest.raises(UnreachableError):
        await Pool(f"http://127.0.0.1:{port}", 2).exchange(ASKED, 5.0, 0.25)


async def test_closed_pool_keeps_nothing(peer):
    await peer.ask()
    peer.pool.close()
    while peer.open:
        await asyncio.sleep(0.001)
