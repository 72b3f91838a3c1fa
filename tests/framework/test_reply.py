"""An action's answer on the wire: what it says of itself, and to whom it is said otherwise."""

from __future__ import annotations

import asyncio
from email.utils import parsedate_to_datetime

import pytest

from mesh import clock
from mesh.errors import Broken
from mesh.framework.reply import Reply
from tests.framework.server import served

HOST = "Host: 127.0.0.1\r\n"
GET = f"GET /things/a HTTP/1.1\r\n{HOST}\r\n"


@pytest.fixture
async def shelf(tmp_path):
    async with served(tmp_path) as found:
        yield found


async def whole(port: int, *sent: str) -> str:
    """What comes back of a connection on which each is sent after the answers to those before."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    found = ""
    try:
        async with asyncio.timeout(60):
            for each in sent:
                writer.write(each.encode())
                for _ in range(each.count("GET ")):
                    found += (await reader.readuntil(b"}")).decode()
            writer.write_eof()
            found += (await reader.read()).decode()
    finally:
        writer.close()
        await writer.wait_closed()
    return found


async def test_answer_says_what_it_is_how_long_and_when(shelf):
    answer = await shelf.raw(GET.encode())
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json["id"] == "a"
    assert (
        abs(parsedate_to_datetime(answer.headers["Date"]).timestamp() - clock.now_ms() / 1000) < 3
    )
    assert "Connection" not in answer.headers


async def test_answers_follow_one_another_on_a_connection_also_where_requests_came_at_once(shelf):
    assert (await whole(shelf.port, GET, GET)).count("HTTP/1.1 200 OK") == 2
    assert (await whole(shelf.port, GET + GET + GET)).count("HTTP/1.1 200 OK") == 3


async def test_connection_ends_where_the_client_says_so(shelf):
    last = GET.replace(HOST, HOST + "Connection: close\r\n")
    found = await whole(shelf.port, last)
    assert "\r\nConnection: close\r\n" in found


@pytest.mark.parametrize(("more", "kept"), [("", False), ("Connection: keep-alive\r\n", True)])
async def test_client_that_speaks_http_1_0_is_answered_in_it(shelf, more, kept):
    old = f"GET /things/a HTTP/1.0\r\n{HOST}{more}\r\n"
    found = await whole(shelf.port, *([old, old] if kept else [old]))
    assert found.count("HTTP/1.0 200 OK") == 1 + kept
    assert ("\r\nConnection: keep-alive\r\n" in found) == kept


async def test_answer_without_a_body_says_so_by_its_status_alone(shelf):
    answer = await shelf.ask("DELETE", "/things/a")
    assert answer.status == 204
    assert not {"Content-Length", "Content-Type", "Transfer-Encoding"} & answer.headers.keys()


@pytest.mark.parametrize("sly", ["a\r\nSet-Cookie: b", "a\nb", "\0", "ä"])
def test_header_cannot_begin_another_one(sly):
    with pytest.raises(Broken):
        Reply(201, b"{}", {"Location": sly}).written()
