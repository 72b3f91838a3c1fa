"""A plain request is read without a parser, and read as a parser would; no other one is plain."""

from __future__ import annotations

import asyncio
import re
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mesh import clock, framework, telemetry
from mesh.client import Call, Client, Envelope
from mesh.framework.connections import Connections
from mesh.framework.gate import Gate
from mesh.framework.heads import LINE_BYTES_MAX, NAMES, plain
from mesh.framework.protocol import Connection
from mesh.framework.reply import Reply
from mesh.resilience.admission import Admission
from tests.framework.server import Make

if TYPE_CHECKING:
    from mesh.framework.request import Request

GET = b"GET /things/a HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /things/a HTTP/1.1\r\nHost: localhost\r\nAccept: a, b\r\nContent-Length: 2\r\n\r\n{}"
CURL = b"GET /a HTTP/1.1\r\nHost: localhost:7001\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n\r\n"
HALF = b"GET /b HTTP/1.1\r\nHost: localhost\r\nAccept: "
OTHERS = [name for name in NAMES if name.lower() not in {"host", "content-length"}]


@pytest.mark.parametrize(
    "data",
    [
        GET,
        POST,
        CURL,
        *(POST.replace(b"POST", method) for method in (b"GET", b"PUT", b"PATCH", b"DELETE")),
        *(POST.replace(name, name.lower()) for name in (b"Host", b"Content-Length")),
        *(POST.replace(b"Accept", name.encode()) for name in OTHERS),
        CURL.replace(b"/8.5.0", b" 8.5 (a; b:c) " + b"x" * 3000),
        GET.replace(b"/a", b"/a/B_0/c.d-e"),
        GET.replace(b"\r\n\r\n", b"\r\nContent-Length: 0\r\n\r\n"),
        HALF + b"x" * (LINE_BYTES_MAX - len(HALF) - 4) + b"\r\n\r\n",
    ],
)
def test_ordinary_request_needs_no_parser(data):
    assert plain(data, "") is not None


async def test_ask_of_our_own_needs_no_parser():
    asked = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.read(LINE_BYTES_MAX))
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        client = Client({"shelf": url}, lambda audience: f"token-for-{audience}")
        until_s = clock.monotonic_s() + 60
        told = Envelope(trace=telemetry.new_trace(), deadline_s=until_s, cause="req_1", key="k1")
        for route in "POST /things", "PUT /things/{name}":
            await client.ask(Call("shelf", route, Make, type(None)), Make("lamp"), told)
        await client.close()
    assert [plain(each, "") is not None for each in asked] == [True, True]


LINES = rb"""
Host: other
HOST: other
host: other
Host : other
Accept: c
accept: c
Content-Length: 2
content-length: 2
Transfer-Encoding: chunked
transfer-encoding: chunked
Connection: close
Connection: keep-alive
Connection: upgrade, close
Upgrade: h2c
Proxy-Connection: close
Keep-Alive: timeout=5
Expect: 100-continue
TE: trailers
Trailer: Host
Content-Encoding: gzip
HTTP2-Settings: x
Origin: http://evil.example
Sec-Fetch-Site: cross-site
Sec-WebSocket-Key1: 1
User_Agent: x
X: y
User-Agent:
User-Agent:x
User-Agent: x """.split(b"\n")

ODD = [
    *((b"POST", method) for method in (b"HEAD", b"OPTIONS", b"CONNECT", b"post", b"BREW", b"", b"\r\nPOST")),
    *((b"/things/a ", target + b" ") for target in (
        b"", b"/", b"*", b"/a/", b"//a", b"/a?b=%20c&b=d&e", b"/a?", b"/a%2Fb%25/%61", b"/a#b", b"/a;b", b"/a\tb",
        b"/\xc3\xa9", b"/a ", b"a", b"localhost:1", b"http://localhost:1/a", b"/" + b"a" * LINE_BYTES_MAX,
    )),
    *((b"HTTP/1.1", version) for version in (b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"http/1.1", b"HTTP/1.1 ", b"")),
    *((b"\r\n", b"\r\n" + line + b"\r\n") for line in LINES),
    *((b": a, b", b": " + value) for value in (
        b" a", b"\ta", b"a ", b"a\t", b"a  b", b"a\tb", b"a\0b", b"a\x7fb", b"\xc3\xa9", b"\xff", b"a\rb", b"a\nb", b"a\r\n b",
        b"", b" ", b"x" * LINE_BYTES_MAX, b"x" * 9000, b"\r\n".join(b"a\r\nX-%d: y" % each for each in range(150)),
    )),
    *((b": 2", b": " + length) for length in (
        b"+2", b"02", b"2 ", b" 2", b"2,2", b"0x2", b"1", b"3", b"-2", b"", b"2.0", b"\xb2", b"2\r\nContent-Length: 2",
    )),
    *((b": 2\r\n\r\n{}", b": 11\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n" + end) for end in (b"", b"\r\n")),
    (b"Content-Length: 2\r\n", b""),
    (b"Host: localhost\r\n", b""),
    (b"localhost", b""),
    (b"\r\n", b"\n"),
    (b"1\r\n", b"1\r"),
    (b"a, b\r\n", b"a, b\n"),
    (b"\r\n\r\n", b"\n\n"),
    (b"\r\n\r\n", b"\r\n\r\n\r\n"),
    (b"{}", b"{"),
    (b"{}", b"{}\n"),
    (b"{}", b"{}" + HALF),
    (b"{}", b"{}" + GET),
]  # fmt: skip
"""What may be in the place of what in a plain request."""


@pytest.mark.parametrize(("old", "new"), ODD, ids=lambda part: repr(part[:40]))
async def test_any_other_is_left_to_the_parser(old, new):
    odd = POST.replace(old, new, 1)
    assert odd != POST
    assert plain(odd, "") is None
    await see_and_answer_alike([odd, GET])


@pytest.mark.parametrize("data", [b"", GET[:-1], POST[:-1], GET + b"\r\n", GET + GET, POST + GET])
def test_less_or_more_than_one_request_is_left_to_the_parser(data):
    assert plain(data, "") is None


SOURCE = "\n".join(path.read_text() for path in Path(framework.__file__).parent.glob("*.py"))
LOOKED_AT = {
    *re.findall(r'request\.headers(?:\.get\(|\[)"([^"]+)', SOURCE),
    *re.findall(r'"([^"]+)" in request\.headers', SOURCE),
}
"""Names of headers as the framework asks for them."""


class Mirror:
    """Answers with all that can be seen of a request."""

    def __init__(self) -> None:
        self.gate = Gate(Admission())
        self.plain = 0

    async def handle(self, request: Request) -> Reply:
        self.plain += type(request.headers) is dict
        body = request.body
        if body is None:
            body = b""
            while part := await request.content.readany():
                body += part
        seen = (
            (request.method, request.target, request.path, request.route, request.old, body),
            (request.authority, [*request.query.items()], request.keep_alive, request.remote),
            sorted((name.lower(), value) for name, value in request.headers.items()),
            [(name, request.headers.get(name), name in request.headers) for name in LOOKED_AT],
        )
        return Reply(200, repr(seen).encode(), {})


class Transport(asyncio.Transport):
    """Keeps what is said, and how it ends."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self.said: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.said.append(re.sub(rb"Date: [^\r]+|[0-9a-f]{16,}", b"", data))

    def write_eof(self) -> None:
        self.said.append(b"no more")

    def close(self) -> None:
        self.said.append(b"the end")

    abort = close

    def is_closing(self) -> bool:
        return b"the end" in self.said

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


async def told(app: Mirror, pieces: list[bytes], *, by_the_parser: bool) -> list[bytes]:
    """All that is said to a client who sends no more behind these pieces."""
    transport = Transport()
    one = Connection(Connections(), app)
    one._heads.clear = not by_the_parser  # which then keeps all that comes
    one.connection_made(transport)
    for piece in pieces:
        if not transport.is_closing():
            one.data_received(piece)
        for _ in range(5):
            await asyncio.sleep(0)
    if not one.eof_received():
        transport.close()
    while one.task is not None:
        await asyncio.sleep(0)
    one.connection_lost(None)
    return transport.said


async def see_and_answer_alike(pieces: list[bytes]) -> int:
    """How many requests were plain."""
    app = Mirror()
    assert await told(app, pieces, by_the_parser=False) == await told(
        app, pieces, by_the_parser=True
    )
    return app.plain


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Mostly plain but for something."""
    names = draw(st.lists(st.sampled_from(OTHERS), max_size=4))
    body = draw(st.sampled_from([b"", b"{}", GET]))
    lines = [b"Host: localhost", b"Accept: a, b", b"Content-Length: %d" % len(body)]
    lines += [f"{name}: {name}/1".encode() for name in names]
    method = draw(st.sampled_from([b"GET", b"POST", b"PUT"]))
    target = draw(st.sampled_from([b"/things/a", b"/..", b"/a/./b", b"/things/a-_.Z9"]))
    lines = [method + b" " + target + b" HTTP/1.1", *draw(st.permutations(lines))]
    head = b"\r\n".join(lines)
    found = head + b"\r\n\r\n" + body
    for old, new in draw(st.lists(st.sampled_from(ODD), max_size=2)):
        found = found.replace(old, new, 1)
    for at in draw(st.lists(st.integers(0, len(found)), max_size=1)):
        found = found[:at] + draw(st.binary(max_size=1)) + found[at + draw(st.integers(0, 1)) :]
    return found


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    """What one client sends, as it comes."""
    parts = draw(st.lists(requests(), min_size=1, max_size=3))
    if draw(st.booleans()):
        return parts
    whole = b"".join(parts)
    cuts = draw(st.sets(st.integers(0, len(whole)), max_size=2))
    return [whole[begin:end] for begin, end in pairwise(sorted({0, len(whole), *cuts}))]


@settings(max_examples=400, deadline=None, derandomize=True)
@given(streams())
@example([POST + HALF, GET])
@example([POST, GET, CURL, POST])
def test_all_is_seen_and_answered_as_by_the_parser_alone(pieces):
    asyncio.run(see_and_answer_alike(pieces))


async def test_comparison_sees_plain_requests_and_all_that_is_asked_of_them():
    assert await see_and_answer_alike([POST, GET, CURL, POST]) == 4
    assert {"Authorization", "Expect", "Origin"} <= LOOKED_AT
