"""Asking over real sockets: what is sent, what is repeated, how long, and what an answer means."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest
from aiohttp import web
from msgspec import Struct

from mesh import client, clock, codec, errors, telemetry
from mesh.client import (
    HOP_S,
    Call,
    Client,
    Envelope,
    facts_as,
    problem_error,
)
from mesh.errors import DeadlineExceeded, ServiceUnavailable
from mesh.exchange import ANSWER_BYTES_MAX
from mesh.framework import problems
from mesh.resilience.policy import RETRIES_MAX, BreakerPolicy, Policy
from tests.framework.server import listening

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TRIES = RETRIES_MAX + 1


class Ref(Struct, frozen=True):
    id: str
    part: int | None = None
    text: str | None = None


class Order(Struct, frozen=True):
    id: str
    lines: tuple[int, ...] = ()


class Seen(Struct, frozen=True):
    ok: bool = True


class Text(Struct, frozen=True):
    text: str


GET = Call("shelf", "GET /things/{id}", Ref, Seen)
PUT = Call("shelf", "PUT /things/{id}", Order, Seen)
DELETE = Call("shelf", "DELETE /things/{id}", Ref, type(None))
POST = Call("shelf", "POST /things/{id}/parts", Order, Seen)
PATCH = Call("shelf", "PATCH /things/{id}", Order, Seen)
REPEATABLE = Call("shelf", "POST /things/{id}/parts", Order, Seen, repeatable=True)


HANGS_S = 50.0
"""What holds nobody back ends long before, on a machine that stands still for seconds too."""


class Peer:
    """What a peer is asked, and answers as told."""

    def __init__(self) -> None:
        self.requests: list[web.BaseRequest] = []
        self.bodies: list[bytes] = []
        self.answers: list[web.StreamResponse | str] = []
        self.hung = asyncio.Event()
        self.client: Client
        self.port = 0

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests.append(request)
        self.bodies.append(await request.read())
        told = self.answers.pop(0) if self.answers else web.json_response({"ok": True})
        if told == "close":
            request.transport.abort()
        if told in {"close", "hang"}:
            await self.hung.wait()
            return web.Response()
        return told

    async def ask(self, call: Call, request: object, **more: object) -> object:
        facts = {"trace": telemetry.new_trace(), "deadline_s": clock.monotonic_s() + 60} | more
        return await self.client.ask(call, request, Envelope(**facts))


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    found = Peer()
    async with listening(found.answer) as found.port:
        found.client = Client(
            {"shelf": f"http://127.0.0.1:{found.port}"},
            lambda audience: f"token-for-{audience}",
            patience=100,
        )
        try:
            yield found
        finally:
            found.hung.set()
            await found.client.close()


@pytest.fixture
def quickly(monkeypatch) -> None:
    """Tries follow one another at once; how long they wait is another test's matter."""
    monkeypatch.setattr(client, "RETRY_WAIT_S", (0.0, 0.002))


def problem(error: errors.MeshError, trace_id: str, instance: str) -> web.Response:
    """As a service tells of an error."""
    told = problems.problem(error, trace_id, instance)
    return web.Response(
        status=told.status, body=told.body, headers=told.headers, content_type=told.kind
    )


def unavailable(**facts: object) -> web.Response:
    return problem(ServiceUnavailable("away", **facts), "0" * 32, "/")


# --- what is sent ---------------------------------------------------------------------------


async def test_request_carries_the_envelope(peer):
    peer.client.patience = 1
    trace = telemetry.new_trace()
    await peer.ask(POST, Order("a", (1,)), trace=trace, cause="evt_1", key="k1")
    sent = peer.requests[0].headers
    assert sent["Authorization"] == "Bearer token-for-shelf"
    assert sent["traceparent"].split("-")[1] == trace.trace_id
    assert sent["traceparent"] != trace.traceparent
    assert sent["Mesh-Cause"] == "evt_1"
    assert sent["Idempotency-Key"] == "k1"
    assert sent["Content-Type"] == "application/json"
    assert 0 < int(sent["Mesh-Timeout"]) <= (POST.policy.timeout_s - HOP_S) * 1000


async def test_request_carries_no_more_than_it_needs(peer):
    await peer.ask(GET, Ref("a"))
    names = {name.lower() for name in peer.requests[0].headers}
    assert names <= {"host", "accept", "authorization", "traceparent", "mesh-timeout"}


@pytest.mark.parametrize("sly", ["a\r\nMesh-Cause: b", "a\nb", "\x00", "ä"])
@pytest.mark.parametrize("name", ["key", "cause"])
async def test_value_cannot_begin_another_header(peer, name, sly):
    with pytest.raises(errors.InvalidInput):
        await peer.ask(POST, Order("a"), **{name: sly})
    assert peer.requests == []


async def test_bearer_of_the_envelope_stands_in_for_the_own_token(peer):
    await peer.ask(GET, Ref("a"), bearer="users-token")
    assert peer.requests[0].headers["Authorization"] == "Bearer users-token"


async def test_timeout_shrinks_with_what_is_left(peer):
    await peer.ask(GET, Ref("a"), deadline_s=clock.monotonic_s() + 0.3)
    assert 150 < int(peer.requests[0].headers["Mesh-Timeout"]) <= 290


async def test_get_puts_what_the_path_leaves_into_the_query(peer):
    await peer.ask(GET, Ref("a", part=3, text="ä &=+/?#%\n"))
    assert peer.requests[0].method == "GET"
    parts = urlsplit(peer.requests[0].raw_path)
    assert parts.path == "/things/a"
    assert parse_qs(parts.query) == {"part": ["3"], "text": ["ä &=+/?#%\n"]}
    assert peer.bodies == [b""]


async def test_get_leaves_out_what_is_null(peer):
    await peer.ask(GET, Ref("a"))
    assert peer.requests[0].raw_path == "/things/a"


async def test_put_puts_what_the_path_leaves_into_the_body(peer):
    await peer.ask(PUT, Order("a", (1, 2)))
    assert peer.requests[0].method == "PUT"
    assert peer.requests[0].raw_path == "/things/a"
    assert json.loads(peer.bodies[0]) == {"lines": [1, 2]}


async def test_delete_sends_no_body_and_needs_no_answer(peer):
    peer.answers = [web.Response(status=204)]
    assert await peer.ask(DELETE, Ref("a")) is None
    assert peer.bodies == [b""]


@pytest.mark.parametrize(
    "name", ["a/b", "../x", "...", "a?b=c", "a#b", "a%2Fb", "a b", "ä", "a\r\nHost: x", "%"]
)
async def test_path_field_cannot_leave_its_place(peer, name):
    await peer.ask(PUT, Order(name))
    raw = peer.requests[0].raw_path
    assert raw.startswith("/things/")
    assert "/" not in raw.removeprefix("/things/")
    assert "?" not in raw
    path = peer.requests[0].rel_url.path_safe.removeprefix("/things/")
    assert path.replace("%2F", "/").replace("%25", "%") == name


@pytest.mark.parametrize("name", ["", ".", ".."])
async def test_path_field_is_refused_when_it_would_lead_to_another_route(peer, name):
    with pytest.raises(errors.InvalidInput) as caught:
        await peer.ask(PUT, Order(name))
    assert caught.value.pointer == "/id"
    assert peer.requests == []


# --- what may be repeated -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "request_", "key", "tries"),
    [
        (GET, Ref("a"), None, TRIES),
        (PUT, Order("a"), None, TRIES),
        (DELETE, Ref("a"), None, TRIES),
        (REPEATABLE, Order("a"), None, TRIES),
        (POST, Order("a"), "k1", TRIES),
        (POST, Order("a"), None, 1),
        (PATCH, Order("a"), None, 1),
    ],
)
async def test_only_what_may_be_repeated_is_repeated(peer, quickly, call, request_, key, tries):
    peer.answers = [unavailable() for _ in range(10)]
    with pytest.raises(ServiceUnavailable):
        await peer.ask(call, request_, key=key)
    assert len(peer.requests) == tries
    assert len(set(peer.bodies)) == 1
    assert {sent.headers.get("Idempotency-Key") for sent in peer.requests} == {key}


@pytest.mark.parametrize(("key", "tries"), [(None, 1), ("k1", TRIES)])
async def test_post_is_repeated_after_a_closed_connection_when_it_has_a_key(
    peer, quickly, key, tries
):
    peer.answers = ["close"] * 10
    with pytest.raises(ServiceUnavailable):
        await peer.ask(POST, Order("a"), key=key)
    assert len(peer.requests) == tries


async def test_repeated_request_succeeds_once_the_peer_is_back(peer):
    peer.answers = [unavailable(), unavailable()]
    assert await peer.ask(GET, Ref("a")) == Seen()
    assert len(peer.requests) == 3
    assert len({sent.headers["traceparent"] for sent in peer.requests}) == 3
    left = [int(sent.headers["Mesh-Timeout"]) for sent in peer.requests]
    assert left == sorted(left, reverse=True)


async def test_overloaded_peer_is_not_asked_again(peer):
    peer.answers = [problem(errors.Overloaded("full"), "0" * 32, "/")]
    with pytest.raises(errors.Overloaded, match="full"):
        await peer.ask(GET, Ref("a"))
    assert len(peer.requests) == 1


async def test_overloaded_peer_of_another_language_says_so_in_a_header(peer):
    peer.answers = [web.Response(status=503, headers={"Mesh-Overloaded": "1"})]
    with pytest.raises(errors.Overloaded):
        await peer.ask(GET, Ref("a"))
    assert len(peer.requests) == 1


async def test_nothing_is_repeated_when_somebody_above_repeats(peer, quickly):
    peer.answers = [unavailable() for _ in range(TRIES)]
    with pytest.raises(ServiceUnavailable):
        await peer.ask(GET, Ref("a"), outermost=False)
    assert len(peer.requests) == 1


async def test_room_for_work_that_nobody_waits_for_is_what_the_breakers_of_its_peers_say(peer):
    client = peer.client
    assert client.room((), 16) == client.room(("shelf",), 16) == 16, "nothing is known yet"
    peer.answers = [unavailable() for _ in range(BreakerPolicy().failing)]
    while peer.answers:
        with pytest.raises(ServiceUnavailable):
            await peer.ask(GET, Ref("a"), outermost=False)
    assert client.room(("auth",), 16) == 16
    assert client.room(("auth", "shelf"), 16) <= 1


async def test_retries_end_with_the_budget_when_nothing_else_stops_them(peer, quickly):
    """At most a tenth of the calls and one a second, and what ten seconds of silence have earned."""
    patient = BreakerPolicy(slack=10**6, failing=10**6)
    call = replace(GET, policy=Policy(breaker=patient))
    peer.answers = [unavailable() for _ in range(400)]
    begun_s = clock.monotonic_s()
    for _ in range(200):
        with pytest.raises(ServiceUnavailable):
            await peer.ask(call, Ref("a"))
    figures = peer.client.figures()["shelf"]
    assert figures.calls == figures.errors == 200
    assert figures.attempts == len(peer.requests) == 200 + figures.retries
    assert 10 <= figures.retries <= 30 + (clock.monotonic_s() - begun_s)


async def test_peer_that_fails_is_asked_ever_less_and_again_once_it_is_back(peer, quickly):
    peer.answers = [unavailable() for _ in range(1000)]
    for _ in range(300):
        with pytest.raises(ServiceUnavailable):
            await peer.ask(POST, Order("a"))
    seen = len(peer.requests)
    assert 10 <= seen < 150
    assert peer.client.figures()["shelf"].state == "half-open"
    assert peer.client.figures()["shelf"].held_back == 300 - seen
    peer.answers.clear()
    async with asyncio.timeout(60):
        while peer.client.figures()["shelf"].state != "closed":
            with contextlib.suppress(ServiceUnavailable):
                await peer.ask(POST, Order("a"))
            await asyncio.sleep(0.001)
    assert await peer.ask(POST, Order("a")) == Seen()


async def test_unreachable_peer_is_left_alone_for_a_second_and_then_probed():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    quick = Policy(breaker=BreakerPolicy(open_s=0.1))
    call = Call("shelf", "POST /things/{id}/parts", Order, Seen, quick)
    asker = Client({"shelf": f"http://127.0.0.1:{port}"}, str)
    envelope = Envelope(trace=telemetry.new_trace(), deadline_s=clock.monotonic_s() + 60)

    async def code() -> str:
        with pytest.raises(ServiceUnavailable) as caught:
            await asker.ask(call, Order("a"), envelope)
        return caught.value.code

    try:
        for _ in range(5):
            assert await code() == "service-unavailable"
        assert asker.figures()["shelf"].state == "open"
        assert await code() == client.HELD_BACK
        assert asker.figures()["shelf"].attempts == 5
        while asker.figures()["shelf"].state == "open":
            await asyncio.sleep(0.01)
        assert await code() == "service-unavailable"  # the probe
        assert await code() == client.HELD_BACK
    finally:
        await asker.close()


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 412, 413, 422, 429, 504, 507])
async def test_refusal_is_not_repeated(peer, status):
    peer.answers = [web.Response(status=status) for _ in range(TRIES)]
    with pytest.raises(errors.MeshError):
        await peer.ask(GET, Ref("a"))
    assert len(peer.requests) == 1


# --- deadlines ------------------------------------------------------------------------------


@pytest.mark.parametrize("call", [GET, POST])
async def test_deadline_holds_against_a_peer_that_hangs(peer, call):
    peer.answers = ["hang"] * TRIES
    request = Ref("a") if call is GET else Order("a")
    begun_s = clock.monotonic_s()
    with pytest.raises(DeadlineExceeded):
        await peer.ask(call, request, deadline_s=begun_s + 0.2)
    assert clock.monotonic_s() - begun_s > 0.15
    assert len(peer.requests) == 1


async def test_own_time_of_the_call_holds_when_the_deadline_is_far(peer):
    peer.answers = ["hang"]
    peer.client.patience = 1
    short = Call("shelf", "GET /things/{id}", Ref, Seen, Policy(timeout_s=0.15))
    begun_s = clock.monotonic_s()
    with pytest.raises(DeadlineExceeded):
        await peer.ask(short, Ref("a"), deadline_s=begun_s + HANGS_S)
    assert clock.monotonic_s() - begun_s < HANGS_S


async def test_patience_lengthens_the_own_time_of_a_call_and_not_the_deadline(peer):
    short = Call("shelf", "GET /things/{id}", Ref, Seen, Policy(timeout_s=0.01))
    envelope = Envelope(trace=telemetry.new_trace(), deadline_s=clock.monotonic_s() + 0.3)
    patient = Client({"shelf": f"http://127.0.0.1:{peer.port}"}, str, patience=1000)
    peer.answers = ["hang"]
    with pytest.raises(DeadlineExceeded):
        await patient.ask(short, Ref("a"), envelope)
    assert clock.monotonic_s() >= envelope.deadline_s - HOP_S
    await patient.close()


async def test_deadline_holds_against_a_body_that_trickles():
    async def trickle(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(b" ")
                await asyncio.sleep(0.01)
        return response

    async with listening(trickle) as port:
        asker = Client({"shelf": f"http://127.0.0.1:{port}"}, str)
        begun_s = clock.monotonic_s()
        with pytest.raises(DeadlineExceeded):
            await asker.ask(
                GET, Ref("a"), Envelope(trace=telemetry.new_trace(), deadline_s=begun_s + 0.2)
            )
        assert clock.monotonic_s() - begun_s < HANGS_S
        await asker.close()


async def test_nothing_is_sent_when_no_time_is_left(peer):
    with pytest.raises(DeadlineExceeded):
        await peer.ask(GET, Ref("a"), deadline_s=clock.monotonic_s() + HOP_S)
    assert peer.requests == []


async def test_retries_stay_within_the_deadline(peer, monkeypatch):
    monkeypatch.setattr(client, "RETRY_WAIT_S", (60.0, 60.0))
    peer.answers = [unavailable() for _ in range(TRIES)]
    begun_s = clock.monotonic_s()
    with pytest.raises(ServiceUnavailable):
        await peer.ask(GET, Ref("a"), deadline_s=begun_s + 20.0)
    assert clock.monotonic_s() - begun_s < 20.0
    assert len(peer.requests) == 1


# --- answers --------------------------------------------------------------------------------

TOLD = [
    (errors.InvalidInput, 400),
    (errors.Unauthenticated, 401),
    (errors.Forbidden, 403),
    (errors.NotFound, 404),
    (errors.Conflict, 409),
    (errors.Gone, 410),
    (errors.PreconditionFailed, 412),
    (errors.TooLarge, 413),
    (errors.DeadlineExceeded, 504),
    (errors.StorageFull, 507),
    (errors.ServiceUnavailable, 503),
]


@pytest.mark.parametrize(("kind", "status"), TOLD)
async def test_problem_arrives_as_the_error_it_was(peer, kind, status):
    told = kind("not enough", code="out-of-stock", shortages=[{"sku": "LAMP", "free": 2}])
    peer.answers = [problem(told, "0" * 32, "/things")]
    assert peer.answers[0].status == status
    with pytest.raises(errors.MeshError) as caught:
        await peer.ask(POST, Order("a"))
    error = caught.value
    assert type(error) is kind
    assert (error.code, error.detail) == ("out-of-stock", "not enough")
    assert error.facts["shortages"] == [{"sku": "LAMP", "free": 2}]
    assert not {"title", "status", "instance", "trace_id", "type", "detail"} & error.facts.keys()


async def test_throttled_arrives_with_its_wait(peer):
    told = errors.Throttled("slowly", retry_after_s=7.5)
    peer.answers = [problem(told, "0" * 32, "/")]
    with pytest.raises(errors.Throttled) as caught:
        await peer.ask(GET, Ref("a"))
    assert caught.value.retry_after_s == 7.5


@pytest.mark.parametrize("status", [400, 404, 422, 428, 429, 500, 502, 503, 599])
@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"<html>",
        b"[]",
        b"null",
        b"{}",
        b'{"type":null,"detail":{},"retry_after_s":"soon"}',
        b'{"detail":"\xff"}',
        b"[" * 100_000,
    ],
)
def test_problem_that_is_none_is_still_an_error_of_ours(status, raw):
    error = problem_error(status, raw, "shelf")
    assert isinstance(error, errors.MeshError)
    assert error.detail


@pytest.mark.parametrize("raw", [b"", b"<html>", b"[]", b'{"ok":"yes"}', b"null"])
async def test_answer_that_cannot_be_read_is_the_peers_fault(peer, raw):
    peer.answers = [web.Response(body=raw)]
    with pytest.raises(ServiceUnavailable):
        await peer.ask(POST, Order("a"))
    assert len(peer.requests) == 1


async def test_redirect_is_not_followed(peer):
    peer.answers = [web.Response(status=302, headers={"Location": "/elsewhere"})]
    with pytest.raises(ServiceUnavailable):
        await peer.ask(POST, Order("a"))
    assert len(peer.requests) == 1


async def test_large_answer_is_read_to_its_end(peer):
    text = "x" * (ANSWER_BYTES_MAX - 100)
    peer.answers = [web.Response(body=codec.encode(Text(text)))]
    assert await peer.ask(Call("shelf", "GET /text/{id}", Ref, Text), Ref("a")) == Text(text)


async def test_answer_over_the_bound_is_refused(peer):
    peer.answers = [web.Response(body=codec.encode(Text("x" * ANSWER_BYTES_MAX)))] * TRIES
    with pytest.raises(ServiceUnavailable):
        await peer.ask(Call("shelf", "POST /text/{id}", Ref, Text), Ref("a"))


def test_facts_of_a_problem_are_read_as_a_shape():
    error = errors.Conflict("short", text="LAMP")
    assert facts_as(error, Text) == Text("LAMP")
    with pytest.raises(ServiceUnavailable):
        facts_as(errors.Conflict("short"), Text)


# --- peers ----------------------------------------------------------------------------------


async def test_refused_connection_is_unavailability():
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    asker = Client({"shelf": f"http://127.0.0.1:{port}"}, str)
    with pytest.raises(ServiceUnavailable):
        await asker.ask(
            GET,
            Ref("a"),
            Envelope(trace=telemetry.new_trace(), deadline_s=clock.monotonic_s() + 2),
        )
    await asker.close()


async def test_peer_that_speaks_no_http_is_unavailability():
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"SSH-2.0-OpenSSH_9\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        asker = Client({"shelf": f"http://127.0.0.1:{port}"}, str)
        with pytest.raises(ServiceUnavailable):
            await asker.ask(
                POST,
                Order("a"),
                Envelope(trace=telemetry.new_trace(), deadline_s=clock.monotonic_s() + 2),
            )
        await asker.close()


async def test_peer_that_may_not_be_asked_is_forbidden_with_a_hint(peer):
    other = Call("order", "GET /orders/{id}", Ref, Seen)
    with pytest.raises(errors.Forbidden) as caught:
        await peer.ask(other, Ref("a"))
    assert caught.value.hint == "add `order` to this service's `calls:`"
    assert peer.requests == []


async def test_client_can_be_closed_twice_and_unused():
    asker = Client({}, str)
    await asker.close()
    await asker.close()
