"""What comes as HTTP and is none, is half of it, or is said so that two readers may read it differently."""

from __future__ import annotations

import asyncio
import socket
import struct

import pytest

from mesh.framework import heads, protocol
from mesh.framework.gate import Gate
from mesh.resilience.admission import Admission
from tests.framework.server import served

HOST = b"Host: localhost\r\n"
GET = b"GET /things/a HTTP/1.1\r\n" + HOST + b"\r\n"
BODY = b'{"name":"lamp"}'
POST = b"POST /open-things HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
SIZED = b"Content-Length: 15\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CHUNKS = b"f\r\n" + BODY + b"\r\n0\r\n"
NO_LINGER = struct.pack("ii", 1, 0)
BOTH = "Content-Length and Transfer-Encoding"


@pytest.fixture
async def shelf(tmp_path):
    async with served(tmp_path) as found, asyncio.timeout(60):
        yield found


@pytest.fixture
async def connect(shelf):
    opened = []

    async def one():
        reader, writer = await asyncio.open_connection("127.0.0.1", shelf.port)
        opened.append(writer)
        return reader, writer

    yield one
    for writer in opened:
        writer.close()


async def statuses(reader: asyncio.StreamReader) -> list[bytes]:
    """Of all answers until the end of the connection."""
    found = await reader.read(-1)
    return [each[:3] for each in found.split(b"HTTP/1.1 ")[1:]]


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(SIZED + CHUNKED, id=BOTH),
        pytest.param(CHUNKED + SIZED, id="the other way round"),
        pytest.param(SIZED + SIZED, id="two lengths"),
        pytest.param(b"Content-Length: 15, 15\r\n", id="a list of lengths"),
        pytest.param(b"Content-Length: +15\r\n", id="a sign"),
        pytest.param(b"Content-Length: 0xf\r\n", id="hexadecimal"),
        pytest.param(b"Content-Length: 1 5\r\n", id="a space in it"),
        pytest.param(b"Content-Length: 18446744073709551631\r\n", id="15 modulo 2^64"),
        pytest.param(b"Content-Length : 15\r\n", id="a space before the colon"),
        pytest.param(b"X: a\r\n Content-Length: 15\r\n", id="a folded line"),
        pytest.param(b"Transfer-Encoding:\r\n chunked\r\n", id="a folded value"),
        pytest.param(b"Transfer-Encoding: chunked, gzip\r\n", id="not chunked in the end"),
        pytest.param(b"Transfer-Encoding: identity\r\n", id="another encoding"),
        pytest.param(b"Transfer-Encoding: \x0bchunked\r\n", id="a control character"),
        pytest.param(CHUNKED + CHUNKED, id="chunked twice"),
        pytest.param(b"X: a\n" + SIZED, id="a bare line feed"),
        pytest.param(b"X: a\r" + SIZED, id="a bare carriage return"),
        pytest.param(b"X: a\0b\r\n" + SIZED, id="a NUL"),
        pytest.param(HOST + SIZED, id="two hosts"),
    ],
)
async def test_head_that_could_be_read_in_two_ways_is_not_read(shelf, connect, head):
    reader, writer = await connect()
    writer.write(POST + head + b"\r\n" + CHUNKS + b"\r\n" + GET)
    assert await statuses(reader) == [b"400"]
    assert shelf.shelf.made == []


@pytest.mark.parametrize(
    "chunks",
    [
        b"f\n" + BODY + b"\n0\n\n",
        b"f;a\nb\r\n" + BODY + b"\r\n0\r\n\r\n",
        b"0xf\r\n" + BODY + b"\r\n0\r\n\r\n",
        b"f \r\n" + BODY + b"\r\n0\r\n\r\n",
        b"1000000000000000f\r\n" + BODY + b"\r\n0\r\n\r\n",
        b"f\r\n" + BODY + b"0\r\n\r\n",
    ],
)
async def test_chunks_that_could_be_read_in_two_ways_are_not_read(shelf, connect, chunks):
    reader, writer = await connect()
    writer.write(POST + CHUNKED + b"\r\n" + chunks + GET)
    assert await statuses(reader) == [b"400"]
    assert shelf.shelf.made == []


@pytest.mark.parametrize(
    "trailer", [b"", b"Origin: http://evil.example\r\n", b"Host: localhost\r\n"]
)
async def test_trailer_becomes_no_header_of_what_follows(connect, trailer):
    reader, writer = await connect()
    writer.write(POST + CHUNKED + b"\r\n" + CHUNKS + trailer + b"\r\n" + GET)
    assert await statuses(reader) == [b"201"]


@pytest.mark.parametrize("to", [b"websocket", b"h2c"])
@pytest.mark.parametrize("asked", [b"GET /things/a HTTP/1.1\r\n" + HOST, POST + SIZED])
async def test_connection_ends_with_the_answer_to_who_would_rather_speak_otherwise(
    connect, asked, to
):
    reader, writer = await connect()
    sly = b"Connection: upgrade\r\nUpgrade: " + to + b"\r\n\r\n"
    writer.write(asked + sly + (BODY if SIZED in asked else b"") + GET)
    assert await statuses(reader) == [b"201" if SIZED in asked else b"200"]


async def test_tunnel_to_nowhere_is_no_request(connect):
    reader, writer = await connect()
    writer.write(GET + b"CONNECT \r\n\r\n HTTP/1.1\r\n" + HOST + b"\r\n")
    assert await statuses(reader) == [b"200", b"400"]


async def test_connection_is_dropped_when_the_parser_itself_fails(shelf, connect, monkeypatch):
    reader, writer = await connect()
    monkeypatch.setattr(heads, "Request", None)
    monkeypatch.setattr(protocol, "Request", None)
    writer.write(GET[:-2] + b"X: y\r\n\r\n")
    assert await reader.read(-1) == b""
    monkeypatch.undo()
    assert (await shelf.ask("GET", "/things/a")).status == 200


@pytest.mark.parametrize(
    ("target", "status"),
    [(b"http://localhost:1/things/a", b"200"), (b"http://evil.example/things/a", b"421")],
)
async def test_host_in_the_target_goes_before_the_header(connect, target, status):
    reader, writer = await connect()
    writer.write(b"GET " + target + b" HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
    assert await statuses(reader) == [status]


@pytest.mark.parametrize(
    ("sent", "found"),
    [
        pytest.param(GET[:-2] + b"X: " + 3_000_000 * b"y" + b"\r\n\r\n", [b"400"], id="long head"),
        pytest.param(
            POST + CHUNKED + b"\r\nzz\r\n" + 1_000_000 * b"y", [b"400"], id="no chunk at all"
        ),
        pytest.param(
            GET[:-2] + b"Connection: close\r\n\r\n" + 1_000_000 * b"y", [b"200"], id="the last one"
        ),
    ],
)
async def test_answer_is_not_lost_on_who_goes_on_sending(shelf, connect, sent, found):
    reader, writer = await connect()
    for begin in range(0, len(sent), 50_000):
        writer.write(sent[begin : begin + 50_000])
        await asyncio.sleep(0)
    assert await statuses(reader) == found
    writer.close()
    while shelf.everybody.count:
        await asyncio.sleep(0.001)


async def test_client_that_sends_no_more_gets_all_its_answers(shelf, connect):
    reader, writer = await connect()
    writer.write(POST.replace(b"open", b"slow") + SIZED + b"\r\n" + BODY + GET + GET)
    await shelf.shelf.entered.wait()
    writer.write_eof()
    await asyncio.sleep(0.02)
    shelf.shelf.gate.set()
    assert await statuses(reader) == [b"201", b"200", b"200"]
    while shelf.everybody.count:
        await asyncio.sleep(0.001)


async def test_half_a_body_is_not_waited_for_when_no_more_is_sent(shelf, connect):
    reader, writer = await connect()
    writer.write(POST + SIZED + b"\r\n" + BODY[:5])
    writer.write_eof()
    assert await reader.read(-1) == b""
    assert (shelf.app.in_flight, shelf.shelf.made) == (0, [])


async def test_what_was_begun_is_done_once_though_the_client_is_gone(shelf, connect, caplog):
    _, writer = await connect()
    key = {**shelf.user(), "Idempotency-Key": "k1", "Content-Type": "application/json"}
    lines = "".join(f"{name}: {text}\r\n" for name, text in key.items()).encode()
    writer.write(b"POST /slow-things HTTP/1.1\r\n" + HOST + lines + SIZED + b"\r\n" + BODY)
    await shelf.shelf.entered.wait()
    own = writer.get_extra_info("socket")
    own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
    writer.transport.abort()
    while shelf.everybody.count:
        await asyncio.sleep(0.001)
    shelf.shelf.gate.set()
    while shelf.app.in_flight:
        await asyncio.sleep(0.001)
    again = await shelf.ask("POST", "/slow-things", {"name": "lamp"}, key)
    assert (again.status, again.headers["Idempotent-Replayed"]) == (201, "true")
    assert shelf.shelf.made == [again.json["id"]]
    assert not [each for each in caplog.records if each.levelname == "ERROR"]


async def test_refusals_do_not_pile_up_for_a_client_that_reads_none(shelf):
    shelf.app.gate = Gate(Admission(places_max=0, waiting_max=0))
    one = protocol.Connection(shelf.everybody, shelf.app)
    written = []

    class Transport(asyncio.Transport):
        def write(self, data: bytes) -> None:
            written.append(data)

        def is_closing(self) -> bool:
            return False

    one.connection_made(Transport())
    one.data_received(GET)
    assert len(written) == 1
    one.pause_writing()
    for _ in range(5):
        one.data_received(GET)
        await asyncio.sleep(0.01)
    assert len(written) == 2
    one.connection_lost(None)
