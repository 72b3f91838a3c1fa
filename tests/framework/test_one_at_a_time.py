"""One connection answers one request at a time: in order, to the end, whatever comes behind it."""

from __future__ import annotations

import asyncio
import json
import random
from itertools import pairwise

import pytest

from mesh import clock
from mesh.framework import connections, heads, protocol
from mesh.framework.gate import Gate
from mesh.resilience.admission import Admission
from tests.framework.server import served

HOST = b"Host: localhost\r\n"
GET = b"GET /things/%s HTTP/1.1\r\n" + HOST + b"\r\n"
BODY = b'{"name":"lamp"}'
POST = b"POST /%s HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
SIZED = POST + b"Content-Length: 15\r\n\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, *parts: bytes) -> None:
        self.writer.write(b"".join(parts))

    async def answer(self) -> tuple[int, dict[str, object]]:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in head[1:] if line)
        raw = await self.reader.readexactly(int(headers["Content-Length"]))
        return int(head[0].split(" ")[1]), json.loads(raw)

    async def gone(self) -> bool:
        try:
            return await self.reader.read(1) == b""
        except ConnectionError:
            return True


@pytest.fixture
async def shelf(tmp_path):
    async with served(tmp_path) as found, asyncio.timeout(60):
        yield found


@pytest.fixture
async def client(shelf):
    found = Client(*await asyncio.open_connection("127.0.0.1", shelf.port))
    yield found
    found.writer.close()


async def test_answers_keep_the_order_of_requests_that_came_while_one_was_at_work(shelf, client):
    client.send(SIZED % b"slow-things", BODY)
    await shelf.shelf.entered.wait()
    for name in (b"a", b"b"):
        client.send(GET % name)
        await asyncio.sleep(0.01)
    assert shelf.app.requests_begun == 1
    shelf.shelf.gate.set()
    assert (await client.answer())[0] == 201
    assert [(await client.answer())[1]["id"] for _ in "ab"] == ["a", "b"]


async def test_hundreds_sent_at_once_are_all_answered_in_order(client):
    sent = [str(number) for number in range(400)]
    client.send(*(GET % each.encode() for each in sent))
    assert [(await client.answer())[1]["id"] for _ in sent] == sent


STREAM = (
    GET % b"a",
    SIZED % b"open-things" + BODY,
    b"\r\n" + GET % b"b",
    GET % b"c?depth=2",
    SIZED.replace(b"15", b"2") % b"open-things" + b"{}",
    GET % b"d",
    CHUNKED % b"open-things" + b"f\r\n" + BODY + b"\r\n0\r\n\r\n",
)
"""The last one on its connection comes in chunks."""


@pytest.mark.parametrize("seed", range(12))
async def test_requests_are_the_same_wherever_they_are_cut(client, seed):
    chance = random.Random(seed)
    sent = b"".join(STREAM)
    ends = [sum(map(len, STREAM[:number])) for number in range(len(STREAM) + 1)]
    cuts = {0, len(sent), *chance.sample(range(len(sent)), seed), *chance.sample(ends, seed // 2)}
    for begin, end in pairwise(sorted(cuts)):
        client.send(sent[begin:end])
        await asyncio.sleep(chance.choice((0, 0.01)))
    answers = [await client.answer() for _ in STREAM]
    assert [status for status, _ in answers] == [200, 201, 200, 200, 400, 200, 201]
    assert [told["id"] for status, told in answers if status == 200] == list("abcd")
    assert await client.gone()


async def test_what_goes_on_with_a_request_is_not_taken_for_another_one(shelf, client):
    half = b"GET /things/b HTTP/1.1\r\n" + HOST + b"X: "
    client.send(SIZED % b"slow-things", BODY, half)
    await shelf.shelf.entered.wait()
    shelf.shelf.gate.set()
    assert (await client.answer())[0] == 201
    shelf.app.gate = Gate(Admission(places_max=0, waiting_max=0))
    for rest, answered in (GET.replace(HOST, b"") % b"c", b"b"), (GET % b"d", b"d"):
        client.send(rest)
        status, told = await client.answer()
        assert (status, told["instance"]) == (503, "/things/" + answered.decode())


async def test_connection_is_not_idle_while_what_came_meanwhile_is_at_work(shelf, client):
    client.send(SIZED % b"slow-things", BODY)
    await shelf.shelf.entered.wait()
    client.send(SIZED % b"slow-things", BODY)
    await asyncio.sleep(0.01)
    shelf.shelf.entered.clear()
    shelf.shelf.gate.set()  # for who waits now
    shelf.shelf.gate.clear()
    assert (await client.answer())[0] == 201
    await shelf.shelf.entered.wait()
    assert shelf.everybody.idle == {}
    shelf.shelf.gate.set()
    assert (await client.answer())[0] == 201


async def test_client_that_asks_before_it_sends_its_body_is_told_to_go_on(client):
    head = SIZED.replace(b"\r\n\r\n", b"\r\nExpect: 100-Continue\r\n\r\n")
    client.send(head % b"open-things")
    assert await client.reader.readuntil(b"\r\n\r\n") == protocol.GO_ON
    client.send(BODY)
    assert (await client.answer())[0] == 201
    client.send(head % b"open-things", BODY)
    assert (await client.answer())[0] == 201


async def test_request_that_came_in_part_with_the_one_before_is_answered_too(shelf, client):
    client.send(GET % b"a", SIZED % b"open-things", BODY[:5])
    assert (await client.answer())[0] == 200
    client.send(BODY[5:], GET % b"b")
    assert (await client.answer())[0] == 201
    assert (await client.answer())[1]["id"] == "b"


async def test_rubbish_behind_a_request_is_refused_after_its_answer(client):
    client.send(GET % b"a", b"rubbish\r\n\r\n")
    assert (await client.answer())[0] == 200
    status, problem = await client.answer()
    assert (status, problem["code"]) == (400, "unreadable")
    assert await client.gone()


async def test_body_that_breaks_off_into_rubbish_is_refused_at_once(shelf, client):
    client.send(CHUNKED % b"open-things", b"5\r\n", BODY[:5], b"\r\n")
    while not shelf.app.requests_begun:
        await asyncio.sleep(0.001)
    client.send(b"zz\r\n")
    status, problem = await client.answer()
    assert (status, problem["code"]) == (400, "unreadable")
    assert await client.gone()
    assert shelf.app.in_flight == 0


async def test_body_in_chunks_is_put_together(shelf, client):
    for part in (
        CHUNKED % b"open-things",
        b"5\r\n" + BODY[:5] + b"\r\n",
        b"a\r\n" + BODY[5:] + b"\r\n",
    ):
        client.send(part)
        await asyncio.sleep(0.005)
    client.send(b"0\r\n\r\n")
    assert (await client.answer())[0] == 201
    assert await client.gone()


async def test_connection_goes_on_behind_a_body_that_nobody_wanted(client):
    client.send(SIZED % b"nowhere", BODY[:5])
    assert (await client.answer())[0] == 404
    client.send(BODY[5:], GET % b"a")
    assert (await client.answer())[0] == 200


async def test_connection_ends_when_a_body_that_nobody_wanted_does_not(client, monkeypatch):
    monkeypatch.setattr(protocol, "UNREAD_S", 0.05)
    client.send(SIZED % b"nowhere", BODY[:5])
    assert (await client.answer())[0] == 404
    assert await client.gone()


async def test_large_body_that_nobody_wanted_is_taken_and_the_answer_kept(client):
    size = 8 * heads.READ_BYTES
    client.send(
        b"POST /nowhere HTTP/1.1\r\n",
        HOST,
        b"Content-Length: %d\r\n\r\n" % size,
        b"x" * size,
        GET % b"a",
    )
    assert [(await client.answer())[0] for _ in "ab"] == [404, 200]


async def test_head_is_answered_without_a_body(client):
    client.send(b"HEAD /things/a HTTP/1.1\r\n", HOST, b"\r\n", GET % b"a")
    head = await client.reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 405 ")
    assert (await client.answer())[1]["id"] == "a"


async def test_connection_that_nobody_uses_ends(client, monkeypatch):
    monkeypatch.setattr(connections, "SWEEP_S", 0.01)
    later_s, now_s = 0.0, clock.monotonic_s
    monkeypatch.setattr(clock, "monotonic_s", lambda: now_s() + later_s)
    for _ in range(3):  # used in between it stays
        client.send(GET % b"a")
        assert (await client.answer())[0] == 200
        later_s += connections.IDLE_S / 2
        await asyncio.sleep(0.05)
    later_s += connections.IDLE_S
    assert await client.gone()
