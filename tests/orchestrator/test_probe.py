from __future__ import annotations

import asyncio
import contextlib

import pytest

from mesh.config import Healthcheck
from mesh.errors import ConfigInvalid
from mesh.orchestrator import probe
from mesh.orchestrator.contract import Program

HTTP = Healthcheck(test=("http", "/readyz"), timeout_s=0.2)


@contextlib.asynccontextmanager
async def serving(*answers):
    """A server that gives these answers in turn, the last for ever; b"" hangs up, None is silent."""
    left, heads = [*answers], []

    async def answer(reader, writer):
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        now = left.pop(0) if len(left) > 1 else left[0]
        if now is None:
            await reader.read()
        else:
            writer.write(now)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], heads


@pytest.mark.parametrize(
    "bad",
    [
        b"HTTP/1.1 503 Service Unavailable\r\n\r\n",
        b"HTTP/1.1 302 Found\r\n\r\n",
        b"200 OK\r\n\r\n",
        b"\x00" * 4096,
        b"",
        None,
    ],
)
async def test_http_question_is_asked_until_it_is_answered_well(bad):
    async with serving(bad, b"HTTP/1.1 204 No Content\r\n\r\n") as (port, heads):
        async with asyncio.timeout(5.0):
            await probe.answered(HTTP, port)
        assert len(heads) == 2
        assert heads[0].startswith(b"GET /readyz HTTP/1.1\r\n")


async def test_question_to_nobody_is_asked_until_it_is_cancelled():
    async with serving(b"") as (port, _):
        pass
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await probe.answered(Healthcheck(test=("tcp",)), port)


@pytest.mark.parametrize(
    ("members", "kind"),
    [
        ({"entry": "m:f", "port": 0}, None),
        ({"command": ("x",)}, None),
        ({"command": ("x",), "port": 0, "socket": "inherit"}, None),
        ({"command": ("x",), "port": 0, "socket": "own"}, "tcp"),
        ({"entry": "m:f", "port": 0, "health": HTTP}, "http"),
    ],
)
def test_question_is_put_only_to_those_who_do_not_tell(members, kind):
    asked = probe.question(Program(name="a", **members))
    assert (asked and asked.test[0]) == kind


def test_questions_that_cannot_be_asked_are_refused_all_at_once():
    with pytest.raises(ConfigInvalid) as caught:
        probe.check(
            [
                Program(name="a", entry="m:f", health=Healthcheck(test=("CMD", "true"))),
                Program(name="b", entry="m:f", health=Healthcheck(test=("tcp",))),
                Program(name="c", entry="m:f", port=0, health=HTTP),
            ]
        )
    assert caught.value.complaints == (
        "a: healthcheck CMD is not known here; use http or tcp",
        "b: healthcheck tcp needs a port",
    )
