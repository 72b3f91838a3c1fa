"""Programs in any language: they tell over HTTP, durably, and hear by position, missing nothing."""

from __future__ import annotations

import asyncio
import time

import pytest

from mesh.buses.adoption import Others
from mesh.buses.zmq import files
from tests.buses.guests import guest_bus
from tests.buses.support import until

CLOUD = "application/cloudevents+json"


@pytest.fixture
async def bus(tmp_path):
    async with guest_bus(tmp_path) as found:
        yield found


def numbers(events):
    return [(event["stream"], int(event["sequence"]), event["data"]) for event in events]


def assert_problem(answer, status):
    assert answer.status == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert set(answer.body) >= {"type", "title", "status", "detail", "instance", "code"}
    assert len(answer.body["trace_id"]) == 32


async def told(bus, first, last, **query):
    for n in range(first, last + 1):
        assert (await bus.tell("labels.printed", n, **query)).status == 201


async def test_told_event_is_answered_as_the_cloud_event_it_became(bus):
    answer = await bus.tell(
        "labels.printed", {"parcel": 7}, traceparent=f"00-{'1' * 32}-{'2' * 16}-01"
    )
    assert answer.status == 201
    assert answer.headers["Content-Type"] == CLOUD
    said = answer.body
    assert (said["source"], said["stream"], said["type"]) == ("/labels", "labels", "labels.printed")
    assert (said["sequence"], said["epoch"], said["data"]) == ("1", 1, {"parcel": 7})
    assert said["traceparent"].split("-")[1] == "1" * 32
    assert "subject" not in said
    (heard,) = await bus.next()
    assert heard.pop("position") == "labels:1.1"
    assert heard == said


async def test_cloud_event_keeps_id_subject_and_cause(bus):
    said = {
        "specversion": "1.0",
        "id": "01a212f4-8ec3-7623-9ff9-7dfe439d32ca",
        "source": "/whatever",
        "type": "labels.printed",
        "subject": "parcel-7",
        "causationid": "req_1",
        "data": [1],
    }
    answer = await bus.tell("labels.printed", said, Content_Type=CLOUD)
    assert answer.status == 201
    for name in ("id", "subject", "causationid", "data"):
        assert answer.body[name] == said[name]
    assert answer.body["source"] == "/labels"


async def test_same_id_is_told_once_and_another_content_is_refused(bus):
    first = await bus.tell("labels.printed", {"n": 1}, Idempotency_Key="k")
    again = await bus.tell("labels.printed", {"n": 1}, Idempotency_Key="k")
    assert (first.status, again.status) == (201, 200)
    assert again.body == first.body
    assert again.headers["Idempotent-Replayed"] == "true"
    other = await bus.tell("labels.printed", {"n": 2}, Idempotency_Key="k")
    assert (other.status, other.body["code"]) == (422, "idempotency-key-reused")
    assert (await bus.tell("mails.sent", {"n": 1}, Idempotency_Key="k", as_="mailer")).status == 201
    assert len(await bus.next()) == 2


async def test_events_are_heard_in_order_from_after_on_and_again_without_it(bus):
    await told(bus, 1, 5)
    found = await bus.next(max=3)
    assert numbers(found) == [("labels", n, n) for n in (1, 2, 3)]
    assert numbers(await bus.next(max=3)) == numbers(found), "not handled, so given again"
    rest = await bus.next(after=found[1]["position"])
    assert numbers(rest) == [("labels", n, n) for n in (3, 4, 5)]
    assert numbers(await bus.next()) == numbers(rest), "it stands where it said"
    assert numbers(await bus.next("another", after="0")) == [("labels", n, n) for n in range(1, 6)]


async def test_question_waits_for_news_and_ends_with_none(bus):
    begun = time.monotonic()
    assert await bus.next(wait=0.2) == []
    assert time.monotonic() - begun >= 0.2
    asking = asyncio.ensure_future(bus.next())
    await until(lambda: bus.host._waiting, "nobody waits")
    await told(bus, 1, 1)
    assert numbers(await asking) == [("labels", 1, 1)]


async def test_filters_choose_by_type_and_stream(bus):
    await told(bus, 1, 1)
    await bus.tell("mails.sent", "m", as_="mailer")
    await bus.tell("labels.lost", 2)
    found = await bus.next("a", type="labels.*")
    assert [event["type"] for event in found] == ["labels.printed", "labels.lost"]
    found = await bus.next("b", stream="mailer")
    assert numbers(found) == [("mailer", 1, "m")]
    assert await bus.next("c", type="nothing", wait=0.1) == []
    await bus.tell("nothing", 3)
    found = await bus.next("c", type="nothing")
    assert found[0]["position"] == "labels:1.3,mailer:1.1"


async def test_start_at_the_head_hears_only_what_comes(bus):
    await told(bus, 1, 2)
    assert len(await bus.next("all")) == 2
    assert await bus.next("new", start="head", wait=0.1) == []
    await told(bus, 3, 3)
    assert numbers(await bus.next("new")) == [("labels", 3, 3)]


async def test_same_consumer_asking_again_takes_over(bus):
    first = asyncio.ensure_future(bus.ask("GET", "/events?consumer=twin&wait=20"))
    await until(lambda: bus.host._waiting, "nobody waits")
    second = asyncio.ensure_future(bus.ask("GET", "/events?consumer=twin&wait=20"))
    gone = await first
    assert (gone.status, gone.body["code"]) == (409, "consumer-taken-over")
    await told(bus, 1, 1)
    assert numbers((await second).body) == [("labels", 1, 1)]


async def test_events_and_positions_survive_a_restart_and_the_loss_of_the_log(tmp_path):
    async with guest_bus(tmp_path) as bus:
        await told(bus, 1, 3)
        found = await bus.next(max=2)
        await bus.next(after=found[-1]["position"])
    async with guest_bus(tmp_path) as bus:
        assert numbers(await bus.next()) == [("labels", 3, 3)]
        await told(bus, 4, 4)
    for file in (tmp_path / "bus").glob("bus.db*"):
        file.unlink()
    async with guest_bus(tmp_path) as bus:
        await told(bus, 5, 5)
        assert numbers(await bus.next()) == [("labels", n, n) for n in (3, 4, 5)]


async def test_restored_file_goes_on_in_a_new_epoch_and_consumers_step_back(tmp_path):
    async with guest_bus(tmp_path) as bus:
        await told(bus, 1, 2)
        cut = await bus.hosted.hold()
        await cut.take()
        await cut.copy(tmp_path / "copy.db")
        await cut.close()
        await told(bus, 3, 5)
        far = (await bus.next("mailer", after="0"))[-1]["position"]
        assert await bus.next("mailer", after=far, wait=0.1) == []
    known = {name: Others(one.epochs) for name, one in files.states(tmp_path / "bus").items()}
    for suffix in ("-wal", "-shm"):
        (tmp_path / "bus" / f"hosted.db{suffix}").unlink(missing_ok=True)
    (tmp_path / "copy.db").rename(tmp_path / "bus" / "hosted.db")
    files.adopt(tmp_path / "bus", known)
    async with guest_bus(tmp_path) as bus:
        await bus.tell("labels.printed", "new")
        await until(lambda: len(bus.broker.lineage("labels").epochs) == 2, "no new epoch")
        found = await bus.next("mailer", after=far)
        assert [(event["epoch"], event["sequence"], event["data"]) for event in found] == [
            (2, "3", "new")
        ]
        assert not bus.host.fences


async def test_old_file_put_back_by_hand_is_fenced_and_adopting_it_mends_that(tmp_path):
    async with guest_bus(tmp_path) as bus:
        await told(bus, 1, 2)
        cut = await bus.hosted.hold()
        await cut.take()
        await cut.copy(tmp_path / "copy.db")
        await cut.close()
        await told(bus, 3, 4)
        await until(lambda: bus.broker.lineage("labels").head.seq == 4, "not relayed")
    (tmp_path / "copy.db").rename(tmp_path / "bus" / "hosted.db")
    async with guest_bus(tmp_path) as bus:
        await until(lambda: bus.host.fences, "nobody is fenced")
        assert "BEHIND" in bus.host.fences[0]
    files.adopt(tmp_path / "bus", {})
    async with guest_bus(tmp_path) as bus:
        await told(bus, 5, 5)
        await until(lambda: bus.broker.lineage("labels").head.seq == 3, "not relayed")
        assert not bus.host.fences


@pytest.mark.parametrize(
    ("as_", "audience", "status"),
    [
        (None, "bus", 401),
        ("labels", "order", 401),
        ("order", "bus", 403),
        ("labels", "bus", 201),
        ("operator", "bus", 201),
    ],
)
async def test_only_guests_and_the_operator_tell(bus, as_, audience, status):
    answer = await bus.ask("POST", "/events/a.b", 1, as_=as_, audience=audience)
    assert answer.status == status
    if as_ == "operator":
        assert answer.body["stream"] == "cli"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/faults"),
        ("DELETE", "/faults"),
        ("GET", "/streams"),
        ("POST", "/backup/hold"),
        ("POST", "/backup/copy"),
    ],
)
async def test_the_operators_pages_are_his_alone(bus, method, path):
    assert (await bus.ask(method, path, {})).status == 403
    assert (await bus.ask(method, path, {}, as_=None)).status == 401


@pytest.mark.parametrize(
    ("path", "raw", "headers", "status"),
    [
        ("/events/a.b", b"{", {}, 400),
        ("/events/a.b", b'{"a":1,"a":2}', {}, 400),
        ("/events/a.b", b"1", {"Content_Type": "text/plain"}, 400),
        ("/events/a%20b", b"1", {}, 400),
        (f"/events/{'a' * 129}", b"1", {}, 400),
        ("/events/a.b", b'{"specversion":"1.0","id":"1","type":"c"}', {"Content_Type": CLOUD}, 400),
        ("/events/a.b", b'{"specversion":"1.0","type":"a.b"}', {"Content_Type": CLOUD}, 400),
        ("/events/a.b", b'"' + b"x" * 1_100_000 + b'"', {}, 413),
        ("/events/a.b", b"1", {"Host": "evil.example"}, 421),
        ("/events/a.b", b"1", {"Origin": "http://evil.example"}, 403),
        ("/events/a.b", b"1", {"Content_Encoding": "gzip"}, 400),
    ],
)
async def test_bad_events_are_refused(bus, path, raw, headers, status):
    answer = await bus.ask("POST", path, raw=raw, **headers)
    assert_problem(answer, status)
    assert bus.hosted.streams == []


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nothing", 404), ("GET", "/events/a.b", 405), ("PUT", "/livez", 405)],
)
async def test_what_is_not_there_is_refused_as_everything_is(bus, method, path, status):
    assert_problem(await bus.ask(method, path), status)


async def test_nothing_of_the_inside_is_told_when_something_breaks(bus, monkeypatch, caplog):
    def broken(*_):
        msg = "no such table: hunter2"
        raise RuntimeError(msg)

    monkeypatch.setattr(bus.host, "tell", broken)
    answer = await bus.tell("labels.printed", 1)
    assert_problem(answer, 500)
    assert "hunter2" not in str(answer.body)
    assert "hunter2" in caplog.text


@pytest.mark.parametrize(
    "query",
    [
        "",
        "consumer=A",
        "consumer=a&after=x",
        "consumer=a&after=order:1",
        "consumer=a&wait=31",
        "consumer=a&max=0",
        "consumer=a&start=middle",
        "consumer=a&" + "&".join(["type=x"] * 17),
    ],
)
async def test_bad_questions_are_refused(bus, query):
    answer = await bus.ask("GET", f"/events?{query}")
    assert answer.status == 400
    assert answer.headers["Content-Type"] == "application/problem+json"


async def test_all_that_is_told_at_once_is_there_once(bus):
    answers = await asyncio.gather(*(bus.tell("labels.printed", n) for n in range(150)))
    assert {answer.status for answer in answers} == {201}
    heard = []
    while len(heard) < 150:
        heard += await bus.next(after=heard[-1]["position"] if heard else "")
    assert [int(event["sequence"]) for event in heard] == list(range(1, 151))
    assert sorted(event["data"] for event in heard) == list(range(150))
    assert bus.broker.malformed == 0


async def test_counters_tell_when_everything_told_is_in_the_log(bus):
    await told(bus, 1, 3)
    await bus.tell("mails.sent", 1, as_="mailer")

    async def outbox():
        return (await bus.ask("GET", "/counters", as_="operator")).body["outbox"]

    for _ in range(200):
        if await outbox() == {"head": 4, "acked": 4}:
            break
        await asyncio.sleep(0.01)
    else:
        raise AssertionError(await outbox())
    assert (await bus.ask("GET", "/counters")).status == 403


async def test_log_lost_after_the_beginning_was_forgotten_is_rebuilt_from_there(tmp_path):
    async with guest_bus(tmp_path) as bus:
        await told(bus, 1, 4)
        await bus.next()
        await bus.hosted.write(lambda db: db.execute("DELETE FROM outbox WHERE seq <= 2").rowcount)
    for file in (tmp_path / "bus").glob("bus.db*"):
        file.unlink()
    async with guest_bus(tmp_path) as bus:
        await told(bus, 5, 5)
        assert numbers(await bus.next()) == [("labels", n, n) for n in (3, 4, 5)]
        assert not bus.host.fences
