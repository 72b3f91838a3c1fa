from __future__ import annotations

import asyncio
import contextlib

import pytest

from mesh import codec
from mesh.config import Healthcheck
from mesh.errors import ConfigInvalid
from mesh.orchestrator import probe
from mesh.orchestrator.contract import Program
from mesh.orchestrator.probe import Answer

HTTP = Healthcheck(test=("http", "/readyz"), timeout_s=60.0)
TCP = Healthcheck(test=("tcp",), timeout_s=60.0)


def reach(port=None, run=None, lines=()):
    return probe.Reach(port, run, lambda: lines)


@contextlib.asynccontextmanager
async def serving(answer):
    """A server that gives this answer to all; b"" hangs up, None is silent."""
    heads, served = [], []

    async def serve(reader, writer):
        served.append(asyncio.current_task())
        with contextlib.suppress(ConnectionError):
            heads.append(await reader.read(4096))
            if answer is None:
                await reader.read()
            else:
                writer.write(answer)
                await writer.drain()
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], heads
    await asyncio.gather(*served)


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", Answer(True, "204 No Content")),
        (b"HTTP/1.0 200 OK\r\n\r\nfine", Answer(True, "200 OK")),
        (
            b"HTTP/1.1 503 Service Unavailable\r\nA: b\r\n\r\n{no\n space}",
            Answer(False, "503 Service Unavailable: {no space}"),
        ),
        (b"HTTP/1.1 302 Found\r\n\r\n", Answer(False, "302 Found")),
        (b"200 OK\r\n\r\n", Answer(False, "what answers is no HTTP")),
        (b"HTTP/1.1 \r\n\r\n", Answer(False, "what answers is no HTTP")),
        (b"\x00\xff" * 4096, Answer(False, "what answers is no HTTP")),
        (b"", Answer(False, "connection closed without an answer", silent=True)),
        (None, Answer(False, "no answer within 0.2 s", silent=True)),
    ],
)
async def test_http_question_brings_a_yes_a_no_or_silence(said, answer):
    asked = HTTP if said is not None else codec.replace(HTTP, timeout_s=0.2)
    async with serving(said) as (port, heads):
        assert await probe.ask(asked, reach(port)) == answer
        assert heads[0].startswith(b"GET /readyz HTTP/1.1\r\n")


async def test_long_answer_is_cut():
    async with serving(b"HTTP/1.1 500 Oh\r\n\r\n" + b"x" * 4000) as (port, _):
        answer = await probe.ask(HTTP, reach(port))
    assert len(answer.text) == probe.TEXT_CHARS_MAX


async def test_tcp_question_is_answered_by_who_accepts():
    async with serving(b"") as (port, _):
        assert await probe.ask(TCP, reach(port)) == Answer(True, "connected")
    assert await probe.ask(TCP, reach(port)) == Answer(False, "connection refused", silent=True)


@pytest.mark.parametrize("test", [("CMD", "check", "-q"), ("CMD-SHELL", "check -q | wc")])
@pytest.mark.parametrize(
    ("ended", "answer"),
    [
        ((0, ""), Answer(True, "exit 0")),
        ((0, "fine\n"), Answer(True, "exit 0: fine")),
        ((1, "first\nno route\n"), Answer(False, "exit 1: no route")),
        ((-9, ""), Answer(False, "signal 9")),
    ],
)
async def test_command_answers_by_its_exit_status(test, ended, answer):
    asked = []

    async def run(argv):
        asked.append(tuple(argv))
        return ended

    assert await probe.ask(Healthcheck(test=test), reach(run=run)) == answer
    shell = ("/bin/sh", "-c", "check -q | wc")
    assert asked == [("check", "-q") if test[0] == "CMD" else shell]


async def test_command_that_takes_too_long_is_silence_and_is_cancelled():
    cancelled = []

    async def run(_):
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    asked = Healthcheck(test=("CMD", "x"), timeout_s=0.05)
    answer = await probe.ask(asked, reach(run=run))
    assert answer == Answer(False, "no answer within 0.05 s", silent=True)
    assert cancelled == [True]


async def test_line_of_the_log_is_found_anywhere_in_it():
    asked = Healthcheck(test=("log", r"listening on \d+"))
    found = await probe.ask(asked, reach(lines=("begun", "I am listening on 80.", "later")))
    assert found == Answer(True, "I am listening on 80.")
    assert not (await probe.ask(asked, reach(lines=("listening on port",)))).ok


@pytest.mark.parametrize(
    ("members", "kind", "tells", "heeds", "lasts"),
    [
        ({"entry": "m:f", "port": 0}, None, True, True, False),
        ({"command": ("x",)}, None, False, True, False),
        ({"command": ("x",), "port": 0, "socket": "inherit"}, None, False, True, False),
        ({"command": ("x",), "port": 0, "socket": "own"}, "tcp", False, True, False),
        ({"entry": "m:f", "port": 0, "health": HTTP}, "http", False, False, True),
        ({"command": ("x",), "health": Healthcheck(("notify",))}, None, True, True, False),
        ({"command": ("x",), "health": Healthcheck(("NONE",))}, None, False, False, False),
        ({"entry": "m:f", "health": Healthcheck(("NONE",))}, None, True, True, False),
        ({"entry": "m:f", "health": Healthcheck(retries=9)}, None, True, True, False),
        ({"command": ("x",), "health": Healthcheck(("log", "x"))}, "log", False, False, False),
        ({"command": ("x",), "health": Healthcheck(("CMD", "x"))}, "CMD", False, False, True),
    ],
)
def test_how_a_program_gets_ready(members, kind, tells, heeds, lasts):
    program = Program(name="a", **members)
    asked = probe.question(program)
    assert (asked and asked.test[0]) == kind
    assert (probe.tells(program), probe.heeds(program)) == (tells, heeds)
    assert probe.lasts(program) == lasts


def test_times_without_a_test_hold_for_the_usual_question():
    program = Program(
        name="a", command=("x",), port=0, socket="own", health=Healthcheck(timeout_s=9.0)
    )
    assert probe.question(program) == Healthcheck(test=("tcp",), timeout_s=9.0)


@pytest.mark.parametrize(
    ("asked", "starting", "wait_s"),
    [
        (Healthcheck(("tcp",)), True, probe.AGAIN_S),
        (Healthcheck(("CMD", "x")), True, probe.COMMAND_AGAIN_S),
        (Healthcheck(("CMD", "x"), start_interval_s=3.0), True, 3.0),
        (Healthcheck(("CMD", "x"), interval_s=7.0, start_interval_s=3.0), False, 7.0),
    ],
)
def test_questions_come_fast_until_the_first_good_answer(asked, starting, wait_s):
    assert probe.again_s(asked, starting=starting) == wait_s


def test_questions_that_cannot_be_asked_are_refused_all_at_once():
    with pytest.raises(ConfigInvalid) as caught:
        probe.check(
            [
                Program(name="a", entry="m:f", health=HTTP),
                Program(name="b", entry="m:f", health=TCP),
                Program(name="c", entry="m:f", port=0, health=HTTP),
                Program(name="d", entry="m:f", health=Healthcheck(("CMD", "true"))),
            ]
        )
    assert caught.value.complaints == (
        "a: healthcheck http needs a port",
        "b: healthcheck tcp needs a port",
    )
