"""The HTTP door over real sockets: what it lets in, what it refuses, and how it says so."""

from __future__ import annotations

import asyncio
import gzip
import importlib
import json
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from mesh import __version__, codec
from mesh.errors import DatabaseBroken
from mesh.framework import asyncapi, openapi, reading
from mesh.framework.gate import Gate
from mesh.resilience.admission import Admission
from tests.framework.server import Server, served
from tests.services.in_process import PATIENCE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

POLL_S = 30.0
"""Bound of every wait here: far over what loopback needs."""


SHARED = pytest.mark.asyncio(loop_scope="module")
"""A test that changes nothing may share its server."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory) -> AsyncIterator[Server]:
    async with served(tmp_path_factory.mktemp("shared")) as found:
        yield found


@pytest.fixture
async def server(tmp_path) -> AsyncIterator[Server]:
    async with served(tmp_path) as found:
        yield found


def assert_problem(answer, status: int, code: str | None = None) -> dict[str, object]:
    assert answer.status == status, answer.raw
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    document = answer.json
    assert document["status"] == status
    assert document["type"] == f"/problems/{document['code']}"
    assert document["title"]
    assert document["detail"]
    assert document["trace_id"] == answer.headers["traceparent"].split("-")[1]
    if code is not None:
        assert document["code"] == code
    return document


# --- routes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/nothing", "/things/", "/things/a/b", "/THINGS/a"])
@SHARED
async def test_route_is_not_found_when_nothing_is_there(shared, path):
    assert_problem(await shared.ask("GET", path), 404, "no-such-route")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/things/a", {"GET", "PUT", "DELETE"}),
        ("PATCH", "/things/a", {"GET", "PUT", "DELETE"}),
        ("HEAD", "/things/a", {"GET", "PUT", "DELETE"}),
        ("GET", "/things", {"POST"}),
        ("DELETE", "/boom", {"GET"}),
    ],
)
@SHARED
async def test_method_is_refused_with_the_allowed_ones(shared, method, path, allowed):
    answer = await shared.ask(method, path)
    assert answer.status == 405
    assert set(answer.headers["Allow"].split(", ")) == allowed
    if method != "HEAD":
        assert_problem(answer, 405, "method-not-allowed")


async def test_path_field_keeps_an_encoded_slash_in_one_field(server):
    answer = await server.ask("GET", "/things/a%2Fb%25c")
    assert answer.status == 200
    assert answer.json["id"] == "a/b%c"


@pytest.mark.parametrize(
    "target",
    [
        b"/things/\xff",
        b"/\xff\xfe",
        "/things/é".encode(),
        b"/things/%00",
        b"/things/a?verbose=%00",
        b"/things/%ED%A0%80%00",
        b"/things/a?\xff=1",
        b"/livez\xff",
    ],
)
@SHARED
async def test_target_is_refused_when_it_is_no_plain_text(shared, target):
    answer = await shared.raw(b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert answer.status in {400, 404}


# --- path and query -------------------------------------------------------------------------


async def test_query_is_converted_to_the_members_types(server):
    answer = await server.ask("GET", "/things/7?depth=3&verbose=true")
    assert answer.status == 200
    assert answer.json == {"id": "7", "depth": 3, "verbose": True, "version": 1}


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("depth=1&depth=2", "/depth"),
        ("depth=1&depth=1", "/depth"),
        ("depth=x", "/depth"),
        ("depth=", "/depth"),
        ("depth=1.5", "/depth"),
        ("depth=10", "/depth"),
        ("depth=-1", "/depth"),
        ("verbose=maybe", "/verbose"),
        ("id=b", "/id"),
    ],
)
@SHARED
async def test_query_is_refused_with_a_pointer_when_malformed(shared, query, pointer):
    document = assert_problem(await shared.ask("GET", f"/things/a?{query}"), 400)
    assert document["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize("query", ["unknown=1", "Depth=1", "=1", "a[]=1"])
@SHARED
async def test_query_is_refused_when_a_member_is_unknown(shared, query):
    assert_problem(await shared.ask("GET", f"/things/a?{query}"), 400)


async def test_delete_answers_204_without_a_body(server):
    answer = await server.ask("DELETE", "/things/a")
    assert (answer.status, answer.raw) == (204, b"")
    assert server.shelf.removed == ["a"]


# --- bodies ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b"1",
        b'{"name":"a"} {}',
        b'{"name":"a",}',
        b'{"name":"a","name":"a"}',
        b'{"name":"a","quantity":NaN}',
        b'{"name":"a","quantity":Infinity}',
        b'{"name":"a","quantity":1e999}',
        b'{"name":"a","quantity":1.5}',
        b'{"name":"a","quantity":"1"}',
        b'{"name":"a","quantity":true}',
        b'{"name":"a","quantity":9007199254740993}',
        b'{"name":"a","quantity":0}',
        b'{"name":"a","quantity":11}',
        b'{"name":"a","quantity":null}',
        b'{"name":"a","other":1}',
        b'{"name":""}',
        b'{"name":null}',
        b'{"name":["a"]}',
        b'{"quantity":1}',
        b'{"name":"\\u0000"}',
        b'{"name":"\\ud800"}',
        b'{"name":"\xff"}',
        b'\xef\xbb\xbf{"name":"a"}',
        b'{"name":"a","tags":[1]}',
        b'{"name":"a","tags":{}}',
        b'{"name":"a","tags":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b"[" * 200_000,
        b"9" * 100_000,
        b"{'name':'a'}",
        '{"name":"a"}'.encode("utf-16"),
        json.dumps({"name": "a" * 41}).encode(),
    ],
)
@SHARED
async def test_body_is_refused_with_400_when_it_is_not_what_is_taken(shared, raw):
    answer = await shared.ask("POST", "/open-things", data=raw)
    assert_problem(answer, 400)
    assert shared.shelf.made == []


async def test_body_refused_names_the_place(server):
    answer = await server.ask("POST", "/open-things", {"name": "a", "tags": ["b", 3]})
    document = assert_problem(answer, 400, "invalid-input")
    assert document["errors"] == [{"pointer": "/tags/1", "detail": document["detail"]}]
    assert document["instance"] == "/open-things"


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "multipart/form-data", "a/b", "a", "", "application/json; charset=bogus"],
)
@SHARED
async def test_body_is_refused_when_its_type_is_not_json(shared, kind):
    answer = await shared.ask("POST", "/open-things", {"name": "a"}, {"Content-Type": kind})
    assert_problem(answer, 400, "content-type")


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "x-unknown"])
@SHARED
async def test_body_is_refused_when_it_is_encoded(shared, encoding):
    raw = gzip.compress(b'{"name":"a"}')
    head = (
        f"POST /open-things HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Encoding: {encoding}\r\nContent-Length: {len(raw)}\r\n\r\n"
    )
    answer = await shared.raw(head.encode() + raw)
    assert 400 <= answer.status < 500
    assert shared.shelf.made == []


async def test_body_of_a_mebibyte_is_read_and_one_byte_more_is_not(server):
    just = b'{"name":"' + b"a" * (codec.BODY_BYTES_MAX - 11) + b'"}'
    assert len(just) == codec.BODY_BYTES_MAX
    assert_problem(await server.ask("POST", "/open-things", data=just), 400)
    assert_problem(await server.ask("POST", "/open-things", data=just + b" "), 413, "too-large")


async def test_body_over_the_bound_is_refused_when_its_length_is_not_told(server):
    async def chunks():
        for _ in range(17):
            yield b" " * 65536

    assert_problem(await server.ask("POST", "/open-things", data=chunks()), 413, "too-large")


async def test_body_is_refused_when_its_chunks_are_malformed(server):
    head = (
        b"POST /open-things HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    )
    answer = await server.raw(head + b'5\r\n{"nam\r\nzz\r\n')
    assert 400 <= answer.status < 500


async def test_body_may_not_repeat_what_the_path_says(server):
    answer = await server.ask("PUT", "/things/a", {"id": "b", "name": "c"}, server.peer("order"))
    document = assert_problem(answer, 400)
    assert document["errors"][0]["pointer"] == "/id"


# --- where a request may come from ----------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "10.0.0.1", "", "a b"]
)
@SHARED
async def test_host_is_refused_when_it_is_not_this_machine(shared, host):
    answer = await shared.raw(f"GET /livez HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert_problem(answer, 421, "misdirected")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:7001", "127.0.0.1:1", "[::1]:7001"])
@SHARED
async def test_host_is_taken_when_it_is_this_machine(shared, host):
    answer = await shared.raw(f"GET /livez HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert answer.status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:7001"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
@SHARED
async def test_request_of_a_web_page_is_refused(shared, headers):
    assert_problem(await shared.ask("GET", "/things/a", headers=headers), 403, "cross-site")


@pytest.mark.parametrize(
    "sent",
    [
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 9000 + b"\r\n\r\n",
        b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
@SHARED
async def test_what_is_no_request_is_refused_as_everything_is(shared, sent, caplog):
    caplog.set_level("INFO")
    answer = await shared.raw(sent)
    document = assert_problem(answer, 400, "unreadable")
    assert document["trace_id"] in answer.headers["traceparent"]
    (line,) = [each for each in caplog.records if each.name.startswith(("mesh", "aiohttp"))]
    assert line.facts["trace_id"] == document["trace_id"]
    assert line.exc_info is None, "a stranger could fill the log with what is no error of ours"


# --- conditional reads ----------------------------------------------------------------------


async def test_read_answers_304_when_the_version_is_the_same(server):
    first = await server.ask("GET", "/things/a")
    tag = first.headers["ETag"]
    assert tag == '"1"'
    for match in (tag, f'"0", {tag}', f"W/{tag}"):
        again = await server.ask("GET", "/things/a", headers={"If-None-Match": match})
        assert (again.status, again.raw, again.headers["ETag"]) == (304, b"", tag)
    other = await server.ask("GET", "/things/a", headers={"If-None-Match": '"11"'})
    assert other.status == 200


# --- identity -------------------------------------------------------------------------------


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic YTpi", "token"])
@SHARED
async def test_authorization_is_refused_when_it_is_no_bearer(shared, header):
    answer = await shared.ask("GET", "/origin", headers={"Authorization": header})
    assert_problem(answer, 400)


async def test_permission_follows_the_table(server):
    body, key = {"name": "a"}, {"Idempotency-Key": "k"}
    nobody = await server.ask("POST", "/things", body, key)
    assert_problem(nobody, 401, "unauthenticated")
    assert nobody.headers["WWW-Authenticate"] == "Bearer"
    assert_problem(await server.ask("POST", "/things", body, key | server.peer("order")), 403)
    assert_problem(await server.ask("POST", "/things", body, key | server.peer("operator")), 403)
    assert (await server.ask("POST", "/things", body, key | server.user())).status == 201
    rename = {"name": "b"}
    assert_problem(await server.ask("PUT", "/things/a", rename, server.user()), 403)
    assert_problem(await server.ask("PUT", "/things/a", rename, server.peer("user")), 403)
    assert (await server.ask("PUT", "/things/a", rename, server.peer("order"))).status == 200


async def test_body_is_not_read_when_the_caller_may_not_ask(server):
    head = (
        b"POST /things HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 1000\r\n\r\n"
    )
    assert_problem(await server.raw(head), 401)


async def test_forged_token_is_refused_even_where_anyone_may_ask(server):
    answer = await server.ask("GET", "/origin", headers={"Authorization": "Bearer a.b.c"})
    assert_problem(answer, 401)


async def test_cause_is_taken_from_a_service_alone(server):
    handed = {"Mesh-Cause": "evt_1"}
    told = await server.ask("GET", "/origin", headers=handed | server.peer("order"))
    assert told.json["cause"] == "evt_1"
    for who in ({}, server.user(), server.peer("operator")):
        answer = await server.ask("GET", "/origin", headers=handed | who)
        assert str(answer.json["cause"]).startswith("req_")
    long = {"Mesh-Cause": "e" * 500} | server.peer("order")
    assert len((await server.ask("GET", "/origin", headers=long)).json["cause"]) == 80


@pytest.mark.parametrize("come_from", ["127.0.0.1", "127.0.0.7"])
async def test_action_is_told_the_address_that_the_request_came_from(server, come_from):
    """As the connection has it: no header says otherwise."""
    said = (
        f"GET /origin HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
        "X-Forwarded-For: 10.0.0.1\r\nForwarded: for=10.0.0.1\r\nX-User-Id: usr_1\r\n\r\n"
    )
    answer = await server.raw(said.encode(), come_from=come_from)
    assert (answer.json["source"], answer.json["caller"]) == (come_from, "anyone")


async def test_cause_that_no_database_can_hold_is_not_taken(server):
    bearer = server.peer("order")["Authorization"].encode()
    head = b"GET /origin HTTP/1.1\r\nHost: localhost\r\nMesh-Cause: \xff\r\n"
    answer = await server.raw(head + b"Authorization: " + bearer + b"\r\n\r\n")
    assert answer.status == 200
    assert str(answer.json["cause"]).startswith("req_")


async def test_trace_goes_on_from_the_caller(server):
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    parent = f"00-{trace}-00f067aa0ba902b7-01"
    answer = await server.ask("GET", "/things/a", headers={"traceparent": parent})
    assert answer.headers["traceparent"].split("-")[1] == trace
    assert answer.headers["traceparent"] != parent
    bad = await server.ask("GET", "/things/a", headers={"traceparent": "00-zz-1-01"})
    assert bad.status == 200


# --- deadlines ------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", ["x", "-1", "1.5", "", "1e3", " "])
@SHARED
async def test_timeout_is_refused_when_malformed(shared, budget):
    answer = await shared.ask("GET", "/origin", headers={"Mesh-Timeout": budget})
    assert_problem(answer, 400)


@pytest.mark.parametrize("budget", ["0", "4"])
@SHARED
async def test_timeout_answers_504_when_nothing_fits_in_it(shared, budget):
    answer = await shared.ask("GET", "/origin", headers={"Mesh-Timeout": budget})
    assert_problem(answer, 504, "deadline-exceeded")


MOST_MS = int(reading.REQUEST_S * 1000) * PATIENCE


@pytest.mark.parametrize(
    ("budget", "most"),
    [("30000", 30_000), ("999999999", MOST_MS), ("9" * 100, MOST_MS), (None, MOST_MS)],
)
@SHARED
async def test_timeout_bounds_the_deadline_of_the_action(shared, budget, most):
    headers = {} if budget is None else {"Mesh-Timeout": budget}
    left_ms = (await shared.ask("GET", "/origin", headers=headers)).json["left_ms"]
    assert most - 20_000 < left_ms <= most


# --- problems -------------------------------------------------------------------------------


async def test_problem_tells_nothing_of_the_inside_when_an_action_breaks(server, caplog):
    answer = await server.ask("GET", "/boom")
    document = assert_problem(answer, 500, "broken")
    assert b"hunter2" not in answer.raw
    assert b"RuntimeError" not in answer.raw
    assert set(document) == {
        "type",
        "title",
        "status",
        "detail",
        "instance",
        "code",
        "trace_id",
    }
    assert "hunter2" in caplog.text
    assert server.fatal == []


async def test_process_is_told_to_stop_when_the_database_is_broken(server, monkeypatch):
    async def broken(*_):
        msg = "page 7 is damaged"
        raise DatabaseBroken(msg)

    monkeypatch.setattr(server.room.database, "write", broken)
    answer = await server.ask("POST", "/open-things", {"name": "a"})
    assert_problem(answer, 500, "database-broken")
    assert b"page 7" not in answer.raw
    assert len(server.fatal) == 1


# --- deadlines ------------------------------------------------------------------------------


async def test_patience_gives_a_request_more_time_than_is_usual(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "REQUEST_S", reading.LEFT_MIN_S / 2)
    async with served(tmp_path) as server:
        server.app.patience = 1
        assert (await server.ask("GET", "/things/a")).status == 504
        server.app.patience = 10_000
        assert (await server.ask("GET", "/things/a")).status == 200
        hurried = await server.ask("GET", "/things/a", headers={"Mesh-Timeout": "1"})
        assert hurried.status == 504


# --- overload -------------------------------------------------------------------------------


async def test_overload_sheds_at_once_when_nobody_else_may_wait(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "REQUEST_S", 4 * POLL_S)
    async with served(tmp_path) as server, asyncio.timeout(POLL_S):
        server.app.gate = Gate(Admission(places_max=1, waiting_max=0, wait_s=2 * POLL_S))
        running = asyncio.create_task(server.ask("POST", "/slow-things", {"name": "a"}))
        await server.shelf.entered.wait()
        shed = await server.ask("GET", "/things/a")
        document = assert_problem(shed, 503, "overloaded")
        assert int(shed.headers["Retry-After"]) >= 1
        assert document["overloaded"] is True
        assert (await server.ask("GET", "/livez")).status == 200
        server.shelf.gate.set()
        assert (await running).status == 201
        assert (await server.ask("GET", "/things/a")).status == 200


async def test_overload_sheds_when_no_place_becomes_free_in_time(tmp_path, monkeypatch):
    async with served(tmp_path) as server, asyncio.timeout(POLL_S):
        server.app.gate = Gate(Admission(places_max=1, wait_s=0.05))
        running = asyncio.create_task(server.ask("POST", "/slow-things", {"name": "a"}))
        await server.shelf.entered.wait()
        assert_problem(await server.ask("GET", "/things/a"), 503, "overloaded")
        server.shelf.gate.set()
        assert (await running).status == 201


async def test_waiting_request_is_answered_when_a_place_becomes_free(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "REQUEST_S", 2 * POLL_S)
    async with served(tmp_path) as server, asyncio.timeout(POLL_S):
        server.app.gate = Gate(Admission(places_max=1, wait_s=POLL_S))
        running = asyncio.create_task(server.ask("POST", "/slow-things", {"name": "a"}))
        await server.shelf.entered.wait()
        waiting = asyncio.create_task(server.ask("GET", "/things/a"))
        while not server.app.gate.admission.waiting:
            await asyncio.sleep(0.001)
        server.shelf.gate.set()
        assert [(await running).status, (await waiting).status] == [201, 200]
        assert server.app.in_flight == 0


# --- idempotency ----------------------------------------------------------------------------


async def test_key_is_required_where_the_table_says_so(server):
    answer = await server.ask("POST", "/things", {"name": "a"}, server.user())
    assert_problem(answer, 400, "idempotency-key-missing")


@pytest.mark.parametrize("key", ["", "k" * 256, "é", "a\tb"])
@SHARED
async def test_key_is_refused_when_it_is_not_short_printable_ascii(shared, key):
    headers = shared.user() | {"Idempotency-Key": key}
    assert_problem(await shared.ask("POST", "/things", {"name": "a"}, headers), 400)
    assert shared.shelf.made == []


async def test_answer_is_replayed_when_a_request_is_sent_again(server):
    headers = server.user() | {"Idempotency-Key": "k1"}
    first = await server.ask("POST", "/things", {"name": "a", "quantity": 1}, headers)
    again = await server.ask("POST", "/things", {"quantity": 1, "name": "a"}, headers)
    assert first.status == again.status == 201
    assert first.json == again.json
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert len(server.shelf.made) == 1


async def test_key_is_refused_with_422_when_the_body_is_another(server):
    headers = server.user() | {"Idempotency-Key": "k1"}
    await server.ask("POST", "/things", {"name": "a"}, headers)
    answer = await server.ask("POST", "/things", {"name": "b"}, headers)
    assert_problem(answer, 422, "idempotency-key-reused")
    assert len(server.shelf.made) == 1


async def test_key_belongs_to_one_caller_and_one_operation(server):
    key = {"Idempotency-Key": "k1"}
    body = {"name": "a"}
    answers = [
        await server.ask("POST", "/things", body, key | server.user("usr_alice")),
        await server.ask("POST", "/things", body, key | server.user("usr_bob")),
        await server.ask("POST", "/open-things", body, key | server.user("usr_alice")),
    ]
    assert len({answer.json["id"] for answer in answers}) == 3
    assert all("Idempotent-Replayed" not in answer.headers for answer in answers)


async def test_key_answers_409_while_the_same_request_runs(server):
    headers = server.user() | {"Idempotency-Key": "k1"}
    async with asyncio.timeout(POLL_S):
        running = asyncio.create_task(server.ask("POST", "/slow-things", {"name": "a"}, headers))
        await server.shelf.entered.wait()
        again = await server.ask("POST", "/slow-things", {"name": "a"}, headers)
        assert_problem(again, 409, "request-running")
        server.shelf.gate.set()
        first = await running
    after = await server.ask("POST", "/slow-things", {"name": "a"}, headers)
    assert after.json == first.json
    assert server.shelf.slow_begun == 1


async def test_anonymous_caller_gets_no_stored_answer_but_the_same_entity(server):
    key = {"Idempotency-Key": "k1"}
    first = await server.ask("POST", "/open-things", {"name": "a"}, key)
    again = await server.ask("POST", "/open-things", {"name": "a"}, key)
    assert "Idempotent-Replayed" not in again.headers
    assert len(server.shelf.made) == 2
    assert first.json["id"] == again.json["id"]
    kept = server.room.database.read.all(int, "SELECT count(*) FROM request WHERE answer NOTNULL")
    assert kept == [0]


# --- pages ----------------------------------------------------------------------------------


async def test_counters_are_for_the_operator_alone(server):
    assert_problem(await server.ask("GET", "/counters"), 401)
    assert_problem(await server.ask("GET", "/counters", headers=server.user()), 403)
    assert_problem(await server.ask("GET", "/counters", headers=server.peer("order")), 403)
    await server.ask("GET", "/things/a")
    answer = await server.ask("GET", "/counters", headers=server.peer("operator"))
    assert answer.status == 200
    assert answer.json["requests_begun"] == 1
    assert answer.json["in_flight"] == 0


async def test_health_pages_follow_the_state(server):
    assert (await server.ask("GET", "/livez")).json == {"status": "alive"}
    ready = await server.ask("GET", "/readyz")
    assert (ready.status, ready.json["status"], ready.json["bus"]) == (200, "ready", "connecting")
    server.pages.ready = False
    assert (await server.ask("GET", "/readyz")).status == 503
    assert (await server.ask("GET", "/livez")).status == 200


async def test_metrics_count_by_operation_and_status_without_ids(server):
    await server.ask("GET", "/things/secret-id")
    await server.ask("GET", "/nowhere/secret-id")
    text = (await server.ask("GET", "/metrics")).raw.decode()
    assert 'mesh_requests_total{operation="get",status="200"} 1.0' in text
    assert 'mesh_requests_total{operation="other",status="404"} 1.0' in text
    assert "secret-id" not in text


async def test_openapi_page_is_the_document_of_the_table(server):
    answer = await server.ask("GET", "/openapi.json")
    assert answer.status == 200
    assert answer.json["openapi"].startswith("3.1")
    said = {
        (method.upper(), path) for path, item in answer.json["paths"].items() for method in item
    }
    rows = server.shelf.service.operations
    assert said == {(row.method, row.path) for row in rows}


async def test_asyncapi_page_is_the_document_of_the_table(server):
    answer = await server.ask("GET", "/asyncapi.json")
    assert answer.status == 200
    assert answer.json == asyncapi.document(server.shelf.service, __version__)


@pytest.mark.parametrize("name", ["auth", "user", "product", "order"])
def test_openapi_document_of_the_shop_is_valid_and_its_examples_are_taken(name):
    from openapi_spec_validator import OpenAPIV31SpecValidator

    service = importlib.import_module(f"mesh.services.{name}.service").service
    document = codec.decode(codec.encode(openapi.document(service, "1")), dict[str, object])
    OpenAPIV31SpecValidator(document).validate()
    assert service.operations
    for row in service.operations:
        said = document["paths"][row.path][row.method.lower()]
        values = {
            parameter["name"]: parameter["example"]
            for parameter in said["parameters"]
            if parameter["in"] != "header" and "example" in parameter
        }
        body = said.get("requestBody")
        if body is not None:
            values |= body["content"]["application/json"]["example"]
        assert codec.convert(values, row.takes) == row.example
