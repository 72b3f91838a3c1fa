"""The refusal that is sent before a request is parsed: for what, and that clients can read it."""

from __future__ import annotations

import asyncio
import json

import pytest

from mesh.framework import shedding
from mesh.framework.gate import Gate
from mesh.resilience.admission import Admission
from tests.framework.server import served

POST = b'POST /things HTTP/1.1\r\nHost: localhost\r\nContent-Length: 15\r\n\r\n{"name":"lamp"}'
GET = b"GET /things/a HTTP/1.1\r\nHost: localhost\r\n\r\n"
LIVEZ = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize(
    "data",
    [
        POST,
        GET,
        GET.replace(b"/a ", b"/a?depth=2 "),
        GET.replace(b"\r\n\r\n", b"\r\ncontent-length:0\r\n\r\n"),
        GET.replace(b"\r\n\r\n", b"\r\nConnection: Keep-Alive\r\n\r\n"),
        POST.replace(b"\r\n\r\n", b"\r\ntraceparent: none\r\nX-Content-Length: 3\r\n\r\n"),
    ],
)
def test_whole_request_is_refused(data):
    assert shedding.refusal(data, ()) is not None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        POST[:-1],
        POST + b"x",
        POST[:30],
        GET + GET,
        GET.replace(b"GET", b"BREW"),
        GET.replace(b"1.1", b"1.0"),
        GET.replace(b"/a", b'/"a'),
        GET.replace(b"/a", b"/" + 300 * b"a"),
        GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),
        GET.replace(b"\r\n\r\n", b"\r\nConnection: keep-alive, close\r\n\r\n"),
        GET.replace(b"\r\n\r\n", b"\r\n Folded: yes\r\n\r\n"),
        GET.replace(b"GET", b"get"),
        POST.replace(b"15", b"+15"),
        POST.replace(b"Content-Length: 15", b"Content-Length: 15\r\nContent-Length: 15"),
        POST.replace(b"Content-Length: 15", b"Content-Length : 15"),
        POST.replace(b"Content-Length: 15", b"Transfer-Encoding: chunked"),
        POST.replace(b"Content-Length: 15", b"Content-Length: 15\r\nTransfer-Encoding: chunked"),
        POST.replace(b"Content-Length: 15", b"Content-Length: 15\r\nExpect: 100-continue"),
        GET.replace(b"\r\n\r\n", b"\r\nUpgrade: websocket\r\n\r\n"),
        GET.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding : chunked\r\n\r\n"),
        GET.replace(b"\r\n\r\n", b"\r\nX: y\nTransfer-Encoding: chunked\r\n\r\n"),
    ],
)
def test_anything_else_is_looked_at_properly(data):
    assert shedding.refusal(data, ()) is None


def test_health_is_always_answered():
    assert shedding.refusal(LIVEZ, {"/livez"}) is None


async def read(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], dict[str, object]]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in head[1:] if line)
    raw = await reader.readexactly(int(headers["Content-Length"]))
    return int(head[0].split(" ")[1]), headers, json.loads(raw)


@pytest.mark.parametrize("around", [b"", b"\r\nX: y"])
def test_refusal_names_the_trace_and_the_path(around):
    trace = b"traceparent: 00-" + b"ab" * 16 + b"-0123456789abcdef-01"
    for lines in (
        trace + b"\r\nContent-Length: 15",
        b"Content-Length: 15" + around + b"\r\n" + trace,
    ):
        answer = shedding.refusal(POST.replace(b"Content-Length: 15", lines), ())
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b"\r\ntraceparent: 00-" + b"ab" * 16 + b"-0000000000000001-01" in head
        assert b"\r\nContent-Length: %d" % len(body) in head
        assert json.loads(body)["trace_id"] == "ab" * 16
        assert json.loads(body)["instance"] == "/things"


async def test_request_behind_one_in_pieces_is_refused_before_it_is_parsed(tmp_path):
    async with served(tmp_path) as server, asyncio.timeout(60):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        for begin, end in (0, -15), (-15, None):
            writer.write(POST[begin:end])
            await asyncio.sleep(0.01)
        assert (await read(reader))[0] == 401
        server.app.gate = Gate(Admission(places_max=0, waiting_max=0))
        writer.write(GET)
        status, headers, _ = await read(reader)
        assert (status, headers["traceparent"].split("-")[2]) == (503, "0000000000000001")
        assert server.app.gate.admission.shed == 1
        writer.close()


async def test_refused_connection_goes_on_and_is_answered_once_there_is_room(tmp_path):
    async with served(tmp_path) as server, asyncio.timeout(60):
        server.app.gate = Gate(Admission(places_max=1, waiting_max=1, wait_s=60.0))
        running = asyncio.create_task(server.ask("POST", "/slow-things", {"name": "a"}))
        await server.shelf.entered.wait()
        waiting = asyncio.create_task(server.ask("GET", "/things/b"))
        while not server.app.gate.admission.waiting:
            await asyncio.sleep(0.001)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        begun = server.app.requests_begun
        trace = b"\r\ntraceparent: 00-" + b"ab" * 16 + b"-0123456789abcdef-01\r\n\r\n"
        for _ in range(3):
            writer.write(GET.replace(b"\r\n\r\n", trace))
            status, headers, problem = await read(reader)
            assert status == 503
            assert (headers["Mesh-Overloaded"], headers["Retry-After"]) == ("1", "1")
            assert headers["Content-Type"].startswith("application/problem+json")
            assert headers["traceparent"].split("-")[1] == problem["trace_id"] == "ab" * 16
            assert (problem["code"], problem["instance"]) == ("overloaded", "/things/a")
        writer.write(LIVEZ)
        assert (await read(reader))[0] == 200
        assert server.app.requests_begun == begun
        writer.write(GET[:20])  # in pieces: refused too, the usual way
        await asyncio.sleep(0.01)
        writer.write(GET[20:])
        status, headers, problem = await read(reader)
        assert (status, headers["Mesh-Overloaded"]) == (503, "1")
        assert server.app.gate.admission.shed == 4
        server.shelf.gate.set()
        assert [(await running).status, (await waiting).status] == [201, 200]
        writer.write(GET)
        assert (await read(reader))[0] == 200
        writer.close()
