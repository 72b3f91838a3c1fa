"""Events in: one effect for each event, its cursor in the same commit, nothing skipped."""

from __future__ import annotations

import asyncio

import pytest
from msgspec import Struct, structs

from mesh import clock, codec, telemetry
from mesh.bus import NO_HASH, ORIGIN, Cursor, Epoch, Event, Link, Trace, chain_hash
from mesh.database import Migration
from mesh.errors import Broken, DatabaseBusy, NotFound
from mesh.framework import ANYONE, Deferred, Listener, Operation, Service, Tells, Tx
from mesh.framework import inbox as inbox_module
from mesh.framework.inbox import PIPELINE_MAX, RETRY_S, ServiceInbox, event_id
from tests.services.in_process import Room, room


class Counted(Struct, frozen=True):
    """What is read of `product.thing_counted`."""

    id: str
    number: int


class Echoed(Struct, frozen=True):
    id: str
    number: int


class Later(Struct, frozen=True):
    number: int


class Applied(Struct):
    stream: str
    number: int


class Carried(Struct):
    traceparent: str
    cause: str


class Diverged(Struct):
    stream: str
    from_epoch: int
    from_seq: int
    to_seq: int
    new_epoch: int


HEARD = "CREATE TABLE heard (id TEXT NOT NULL, number INTEGER NOT NULL) STRICT;"


async def _nothing(ctx, request):
    """Do nothing."""


SERVICE = Service(
    name="auth",
    summary="Hears.",
    operations=(
        Operation("say", "POST /x", _nothing, Later, Later, allow=ANYONE, example=Later(1)),
    ),
    tells=(Tells("auth.thing_echoed", Echoed, key="id"),),
    deferred=(Deferred("later", _nothing, Later),),
)


class Hearer:
    """A room with an inbox; what its listener does can be made to fail."""

    def __init__(self, made: Room) -> None:
        self.room = made
        self.failing: dict[int, Exception] = {}
        self.inbox = self.another()

    def another(self) -> ServiceInbox:
        """A twin: the same database, the same table."""
        listeners = [
            Listener("product.thing_counted", self.on_counted, Counted),
            Listener("order.thing_counted", self.on_counted, Counted),
        ]
        return ServiceInbox(self.room.database, self.room.wires.vocabulary, listeners)

    def on_counted(self, tx: Tx, data: Counted) -> None:
        tx.execute("INSERT INTO heard (id, number) VALUES (:id, :n)", id=data.id, n=data.number)
        tx.tell(Echoed(data.id, data.number))
        tx.defer("later", Later(data.number), key=str(data.number))
        if data.number in self.failing:
            raise self.failing[data.number]

    @property
    def heard(self) -> list[int]:
        return self.room.database.read.all(int, "SELECT number FROM heard ORDER BY rowid")

    @property
    def diverged(self) -> list[Diverged]:
        return self.room.database.read.all(
            Diverged, "SELECT stream, from_epoch, from_seq, to_seq, new_epoch FROM mlp_diverged"
        )

    async def seq(self, stream: str = "product") -> int:
        return (await self.inbox.cursor(stream)).link.seq


@pytest.fixture
async def hearer(tmp_path):
    async with room(SERVICE, tmp_path) as made:
        await made.database.migrate([Migration("hearer", 1, HEARD)])
        found = Hearer(made)
        await found.inbox.prepare()
        yield found


def chain(
    count: int,
    *,
    stream: str = "product",
    before: Link = ORIGIN,
    epoch: int = 1,
    kind: str = "thing_counted",
    trace: Trace | None = None,
) -> list[Event]:
    """Events as a producer makes them, numbered by their sequence."""
    made = []
    for seq in range(before.seq + 1, before.seq + count + 1):
        about, body = clock.uuid7(), codec.encode(Counted(f"{stream}-{seq}", seq))
        origin, kind_text = codec.encode(trace or Trace()), f"{stream}.{kind}"
        digest = chain_hash(before.hash, epoch, seq, about, kind_text, "k", 1, origin, body)
        made.append(
            Event(
                stream,
                seq=seq,
                epoch=epoch,
                prev_epoch=before.epoch,
                prev_hash=before.hash,
                hash=digest,
                id=about,
                type=kind_text,
                key="k",
                ts_ms=1,
                trace=origin,
                body=body,
            )
        )
        before = made[-1].link
    return made


async def test_apply_moves_the_cursor_with_the_effect(hearer: Hearer):
    events = chain(PIPELINE_MAX + 3)
    applied = await hearer.inbox.apply("product", events)
    assert (applied.cursor.link, applied.retry_after_s) == (events[-1].link, None)
    assert hearer.heard == [event.seq for event in events]
    assert hearer.inbox.events_applied == len(events)
    assert {"stream": "product", "seq": len(events)} in hearer.inbox.counters()


async def test_effect_and_cursor_are_rolled_back_together(hearer: Hearer):
    hearer.failing[1] = ValueError("no")
    applied = await hearer.inbox.apply("product", chain(1))
    assert (applied.cursor, hearer.heard) == (Cursor(), [])
    assert hearer.room.told() == []
    assert hearer.room.database.read.all(str, "SELECT key FROM deferred") == []
    assert hearer.inbox.events_applied == 0


async def test_event_offered_twice_is_applied_once(hearer: Hearer):
    events = chain(3)
    await hearer.inbox.apply("product", events)
    again = await hearer.inbox.apply("product", events)
    assert again.cursor.link == events[-1].link
    assert again.retry_after_s == RETRY_S[0]
    assert hearer.heard == [1, 2, 3]
    assert hearer.inbox.events_applied == 3


async def test_event_out_of_order_is_not_applied(hearer: Hearer):
    events = chain(3)
    applied = await hearer.inbox.apply("product", events[1:])
    assert (applied.cursor, hearer.heard) == (Cursor(), [])


async def test_event_of_another_history_is_not_applied(hearer: Hearer):
    ours, theirs = chain(2), chain(2)
    await hearer.inbox.apply("product", ours[:1])
    applied = await hearer.inbox.apply("product", theirs[1:])
    assert (applied.cursor.link, hearer.heard) == (ours[0].link, [1])


async def test_failing_listener_holds_its_stream_and_no_other(hearer: Hearer):
    events, others = chain(5), chain(2, stream="order")
    hearer.failing[3] = ValueError("no")
    applied = await hearer.inbox.apply("product", events)
    assert applied.cursor.link == events[1].link
    assert applied.retry_after_s is not None
    assert hearer.heard == [1, 2], "nothing behind the failed event was applied"
    assert (await hearer.inbox.apply("order", others)).cursor.link == others[-1].link
    del hearer.failing[3]
    applied = await hearer.inbox.apply("product", events[2:])
    assert (applied.cursor.link, applied.retry_after_s) == (events[-1].link, None)
    assert hearer.heard == [1, 2, 1, 2, 3, 4, 5]


async def test_wait_grows_while_an_event_fails_and_begins_anew_with_the_next(
    hearer: Hearer, monkeypatch
):
    monkeypatch.setattr(clock, "uniform", lambda low, high: high)
    events = chain(2)
    hearer.failing = {1: ValueError("no"), 2: ValueError("no")}
    waits = [(await hearer.inbox.apply("product", events)).retry_after_s for _ in range(14)]
    assert waits[:4] == [0.05, 0.1, 0.2, 0.4]
    assert waits == sorted(waits)
    assert waits[-1] == RETRY_S[1]
    del hearer.failing[1]
    applied = await hearer.inbox.apply("product", events)
    assert (applied.cursor.link, applied.retry_after_s) == (events[0].link, RETRY_S[0])


async def test_wait_is_jittered_between_half_and_whole(hearer: Hearer, monkeypatch):
    asked: list[tuple[float, float]] = []
    monkeypatch.setattr(clock, "uniform", lambda low, high: asked.append((low, high)) or low)
    hearer.failing[1] = ValueError("no")
    await hearer.inbox.apply("product", chain(1))
    assert asked == [(RETRY_S[0] / 2, RETRY_S[0])]


@pytest.mark.parametrize(
    ("error", "level"), [(NotFound("gone"), "ERROR"), (DatabaseBusy("full"), "WARNING")]
)
async def test_failure_is_logged_with_its_place(
    hearer: Hearer, monkeypatch, error: Exception, level: str
):
    lines: list[tuple[int, dict]] = []
    monkeypatch.setattr(
        inbox_module.log, "log", lambda level, _, **more: lines.append((level, more["extra"]))
    )
    hearer.failing[2] = error
    await hearer.inbox.apply("product", chain(2))
    ((logged, extra),) = lines
    assert logged == getattr(telemetry, level)
    assert "product" in str(extra)
    assert "product.thing_counted" in str(extra)


async def test_undecodable_event_holds_the_stream(hearer: Hearer):
    (event,) = chain(1)
    applied = await hearer.inbox.apply("product", [structs.replace(event, body=b'{"id": 3}')])
    assert (applied.cursor, hearer.heard) == (Cursor(), [])
    assert applied.retry_after_s is not None


async def test_twins_apply_each_event_once(hearer: Hearer):
    events = chain(20)
    twin = hearer.another()
    await asyncio.gather(
        hearer.inbox.apply("product", events),
        twin.apply("product", events),
        hearer.inbox.apply("product", events),
    )
    assert hearer.heard == [event.seq for event in events]
    assert hearer.inbox.events_applied + twin.events_applied == len(events)
    assert await twin.cursor("product") == await hearer.inbox.cursor("product")


async def test_unknown_event_type_moves_the_cursor(hearer: Hearer):
    strange = chain(2, kind="thing_unheard_of")
    known = chain(1, before=strange[-1].link)
    applied = await hearer.inbox.apply("product", [*strange, *known])
    assert (applied.cursor.link, hearer.heard) == (known[-1].link, [3])


async def test_what_a_listener_tells_and_defers_carries_cause_and_trace(hearer: Hearer):
    came = telemetry.new_trace()
    origin = Trace(came.traceparent, "the-whole-story", "req_before")
    (event,) = chain(1, trace=origin)
    await hearer.inbox.apply("product", [event])
    told = codec.decode(
        hearer.room.database.read.one(bytes, "SELECT trace FROM outbox WHERE seq = 1"), Trace
    )
    assert told.cause == clock.uuid_text(event.id) == event_id(event)
    assert told.correlation == "the-whole-story"
    left = hearer.room.database.read.one(Carried, "SELECT traceparent, cause FROM deferred")
    assert left.cause == event_id(event)
    for text in (told.traceparent, left.traceparent):
        trace = telemetry.parse_traceparent(text)
        assert trace is not None
        assert trace.trace_id == came.trace_id
        assert text != came.traceparent, "a span of its own"


async def test_event_without_a_trace_begins_one(hearer: Hearer):
    await hearer.inbox.apply("product", chain(1))
    left = hearer.room.database.read.one(Carried, "SELECT traceparent, cause FROM deferred")
    assert telemetry.parse_traceparent(left.traceparent) is not None


async def test_prepare_keeps_a_cursor_that_is_there(hearer: Hearer):
    events = chain(2)
    await hearer.inbox.apply("product", events)
    twin = hearer.another()
    await twin.prepare()
    assert (await twin.cursor("product")).link == events[-1].link
    assert twin.streams == ("order", "product")


async def test_notice_steps_back_to_the_base_and_marks_what_diverged(hearer: Hearer):
    events = chain(5)
    await hearer.inbox.notice("product", Epoch(1, 0, NO_HASH, b""), ORIGIN)
    await hearer.inbox.apply("product", events)
    base = events[2].link
    cursor = await hearer.inbox.notice("product", Epoch(2, base.seq, base.hash, b"n"), base)
    assert cursor == Cursor(base, 2, base.seq)
    assert hearer.diverged == [Diverged("product", 1, 4, 5, 2)]
    renewed = chain(2, before=base, epoch=2)
    applied = await hearer.inbox.apply("product", renewed)
    assert applied.cursor.link == renewed[-1].link
    assert hearer.heard == [1, 2, 3, 4, 5, 4, 5]


async def test_notice_to_the_very_beginning_steps_back_to_the_origin(hearer: Hearer):
    await hearer.inbox.notice("product", Epoch(1, 0, NO_HASH, b""), ORIGIN)
    await hearer.inbox.apply("product", chain(2))
    cursor = await hearer.inbox.notice("product", Epoch(2, 0, NO_HASH, b""), ORIGIN)
    assert cursor == Cursor(ORIGIN, 2, 0)
    assert hearer.diverged == [Diverged("product", 1, 1, 2, 2)]
    renewed = chain(1, epoch=2)
    assert (await hearer.inbox.apply("product", renewed)).cursor.link == renewed[0].link


async def test_notice_marks_nothing_when_the_cursor_is_not_beyond_the_base(hearer: Hearer):
    events = chain(3)
    await hearer.inbox.notice("product", Epoch(1, 0, NO_HASH, b""), ORIGIN)
    await hearer.inbox.apply("product", events[:2])
    cursor = await hearer.inbox.notice("product", Epoch(2, 3, events[2].hash, b""), events[2].link)
    assert cursor == Cursor(events[1].link, 2, 3)
    assert hearer.diverged == []
    later = chain(1, before=events[2].link, epoch=2)
    applied = await hearer.inbox.apply("product", [events[2], *later])
    assert applied.cursor.link == later[0].link


async def test_notice_of_a_known_or_older_epoch_changes_nothing(hearer: Hearer):
    events = chain(3)
    await hearer.inbox.notice("product", Epoch(2, 0, NO_HASH, b""), ORIGIN)
    before = await hearer.inbox.apply("product", events)
    for epoch in (1, 2):
        cursor = await hearer.inbox.notice(
            "product", Epoch(epoch, 1, events[0].hash, b""), events[0].link
        )
        assert cursor == before.cursor
    assert hearer.diverged == []


async def test_notice_steps_back_within_an_epoch_older_than_the_newest_known(hearer: Hearer):
    """The base may lie in an epoch before the one the cursor's epoch replaced."""
    first = chain(4)
    await hearer.inbox.notice("product", Epoch(1, 0, NO_HASH, b""), ORIGIN)
    await hearer.inbox.apply("product", first)
    await hearer.inbox.notice("product", Epoch(2, 4, first[3].hash, b""), first[3].link)
    second = chain(2, before=first[3].link, epoch=2)
    await hearer.inbox.apply("product", second)
    base = first[1].link
    await hearer.inbox.notice("product", Epoch(3, base.seq, base.hash, b""), base)
    renewed = chain(1, before=base, epoch=3)
    applied = await hearer.inbox.apply("product", renewed)
    assert applied.cursor.link == renewed[0].link


async def test_notice_of_a_stream_without_cursor_is_a_fault(hearer: Hearer):
    with pytest.raises(Broken):
        await hearer.inbox.notice("nobody", Epoch(1, 0, NO_HASH, b""), ORIGIN)
