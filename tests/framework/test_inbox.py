"""Events in: one effect for each event, its cursor in the same commit, nothing skipped."""

from __future__ import annotations

import asyncio

import pytest
from msgspec import Struct, structs

from mesh import clock, codec, telemetry
from mesh.bus import NO_HASH, ORIGIN, Cursor, Epoch, Event, Link, Trace, chain_hash
from mesh.database import Migration
from mesh.databases.sqlite.group import Group
from mesh.errors import Broken, DatabaseBusy, NotFound
from mesh.framework import (
    ANYONE,
    Deferred,
    Listener,
    Operation,
    Service,
    Tells,
    Tx,
    cursors,
    divergence,
    parked,
)
from mesh.framework import inbox as inbox_module
from mesh.framework.attempt import AttemptMark
from mesh.framework.faults import Faults, Inflict
from mesh.framework.handling import ATTEMPTS_MAX, RETRY_S
from mesh.framework.inbox import BATCH_MAX, HALTED_S, PAUSE_S, TWIN_S, ServiceInbox, event_id
from mesh.framework.outbox import ServiceOutbox
from mesh.tracing.span import Span
from mesh.tracing.store import NEWER
from tests.power.recorder import Sync, recorded, why_not
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
        self.failing: dict[int, BaseException] = {}
        self.called: list[int] = []
        self.quiet = False
        self.broken: list[BaseException] = []
        self.inbox = self.another()

    def another(self, *, halt: bool = False, mark: AttemptMark | None = None) -> ServiceInbox:
        """A twin: the same database, the same table."""
        listeners = [
            Listener("product.thing_counted", self.on_counted, Counted, halt=halt),
            Listener("order.thing_counted", self.on_counted, Counted),
            Listener("user.thing_counted", self.on_counted, Counted),
            Listener("order.thing_seen", self.on_counted, Counted, newest=True),
        ]
        words = self.room.wires.vocabulary
        return ServiceInbox(
            self.room.database, words, listeners, mark=mark, broken=self.broken.append
        )

    def on_counted(self, tx: Tx, data: Counted) -> None:
        self.called.append(data.number)
        tx.execute("INSERT INTO heard (id, number) VALUES (:id, :n)", id=data.id, n=data.number)
        if self.quiet:
            return
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

    async def offer(self, events: list[Event], stream: str = "product") -> list[float | None]:
        """Offer what is left of the events until all is applied or the tries are used up."""
        waits: list[float | None] = []
        for _ in range(3 * ATTEMPTS_MAX):
            seq = (await self.inbox.cursor(stream)).link.seq
            left = [event for event in events if event.seq > seq]
            if not left:
                break
            waits.append((await self.inbox.apply(stream, left)).retry_after_s)
        return waits

    @property
    def parked(self) -> list[dict[str, object]]:
        rows = self.room.database.read.all(parked.Summary, parked._SUMMARY, most=parked.LISTED_MAX)
        return [parked.plain(row) for row in rows]

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
    keys: str = "k",
) -> list[Event]:
    """Events as a producer makes them, numbered by their sequence, about each of `keys` in turn."""
    made, now = [], clock.now_ms()
    for seq in range(before.seq + 1, before.seq + count + 1):
        about, body = clock.uuid7(), codec.encode(Counted(f"{stream}-{seq}", seq))
        origin, kind_text = codec.encode(trace or Trace()), f"{stream}.{kind}"
        key = keys[seq % len(keys)]
        digest = chain_hash(before.hash, epoch, seq, about, kind_text, key, now, origin, body)
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
                key=key,
                ts_ms=now,
                trace=origin,
                body=body,
            )
        )
        before = made[-1].link
    return made


async def test_apply_moves_the_cursor_with_the_effect(hearer: Hearer):
    events = chain(BATCH_MAX + 3)
    applied = await hearer.inbox.apply("product", events)
    assert (applied.cursor.link, applied.retry_after_s) == (events[-1].link, None)
    assert hearer.heard == [event.seq for event in events]
    assert hearer.inbox.events_applied == len(events)
    row = {"stream": "product", "seq": len(events), "state": "live", "parked": 0}
    assert row in hearer.inbox.counters()


@pytest.mark.parametrize("kinds", [("dup",), ("reorder",), ("dup", "reorder")])
async def test_events_handed_twice_and_out_of_order_are_applied_once_in_order(hearer, kinds):
    faults, events = Faults(), chain(8 * BATCH_MAX)
    for kind in kinds:
        faults.begin(Inflict(kind=kind, for_s=60, rate=0.3, seed=5))
    way = faults.between(hearer.inbox)
    offers = 0
    async with asyncio.timeout(30):
        while left := events[await hearer.seq() :]:
            applied = await way.apply("product", left[:BATCH_MAX])
            assert applied.cursor == await hearer.inbox.cursor("product")
            offers += 1
    assert offers >= 8
    assert hearer.heard == [event.seq for event in events]
    assert [row.data["number"] for row in hearer.room.told()] == hearer.heard
    assert hearer.parked == []


async def test_events_that_came_together_are_one_transaction(hearer: Hearer):
    before = hearer.room.database.commits
    await hearer.inbox.apply("product", chain(BATCH_MAX))
    assert hearer.room.database.commits == before + 1


@pytest.mark.skipif(bool(why_not()), reason=why_not() or "recorded")
async def test_event_told_by_a_listener_is_durable_before_the_relay_can_read_it(tmp_path):
    """Whatever the relay sees is on the disk, also where the listener told seldom before."""
    with recorded() as notes:
        async with room(SERVICE, tmp_path) as made:
            await made.database.migrate([Migration("hearer", 1, HEARD)])
            hearer = Hearer(made)
            await hearer.inbox.prepare()
            await made.database.write(lambda tx: tx.execute("INSERT INTO heard VALUES ('', 0)"))
            outbox, wal = ServiceOutbox(made.database, "auth"), f"{tmp_path}/auth/auth.db-wal"
            work = asyncio.ensure_future(hearer.inbox.apply("product", chain(1)))
            seen = 0
            while not work.done():
                if await outbox.after(0, rows_max=9, bytes_max=9999):
                    last = max(n for n, each in enumerate(notes) if each.path == wal)
                    assert isinstance(notes[last], Sync)
                    seen += 1
                await asyncio.sleep(0)
            assert (await work).cursor.link.seq == 1
            assert seen
            assert hearer.called == [1, 1], "it was delayed at first"


async def test_listener_that_tells_nothing_costs_no_sync(hearer: Hearer, monkeypatch):
    waits, commit = [], Group.commit
    monkeypatch.setattr(
        Group, "commit", lambda self: (waits.append(not self.delayed), commit(self))
    )
    hearer.quiet = True
    await hearer.room.database.write(lambda tx: tx.execute("INSERT INTO heard VALUES ('', 0)"))
    for event in chain(3):
        await hearer.inbox.apply("product", [event])
    assert waits == [True, False, False, False]


async def test_what_is_old_is_durable_since_the_bus_may_remove_it(hearer: Hearer, monkeypatch):
    waits, commit = [], Group.commit
    monkeypatch.setattr(
        Group, "commit", lambda self: (waits.append(not self.delayed), commit(self))
    )
    hearer.quiet = True
    await hearer.room.database.write(lambda tx: tx.execute("INSERT INTO heard VALUES ('', 0)"))
    events = chain(2)
    monkeypatch.setattr(cursors, "KEPT_MS", -1000)
    await hearer.inbox.apply("product", events[:1])
    monkeypatch.undo()
    assert waits == [True, True]


async def test_failure_among_many_is_tried_alone_and_counted_once(hearer: Hearer):
    events = chain(5)
    hearer.failing[3] = ValueError("no")
    await hearer.inbox.apply("product", events)
    assert hearer.called == [1, 2, 3, 1, 2, 3], "undone together, then one by one"
    await hearer.inbox.apply("product", events[2:])
    assert hearer.called[6:] == [3], "nothing is run with an event that fails"
    await hearer.offer(events)
    (row,) = hearer.parked
    assert (row["sequence"], row["attempts"]) == ("3", ATTEMPTS_MAX)
    assert hearer.called.count(3) == 1 + ATTEMPTS_MAX
    assert [each.type for each in hearer.room.told()] == ["auth.thing_echoed"] * 4


async def test_listener_of_the_newest_hears_the_last_of_each_subject_that_came_together(hearer):
    events = chain(5, stream="order", kind="thing_seen", keys="ab")
    applied = await hearer.inbox.apply("order", events[:4])
    assert (applied.cursor.link, hearer.heard) == (events[3].link, [3, 4])
    assert hearer.inbox.events_applied == 4
    await hearer.inbox.apply("order", events[4:])
    assert hearer.heard == [3, 4, 5]


async def test_listener_of_the_newest_that_fails_is_given_each_alone(hearer: Hearer):
    events = chain(4, stream="order", kind="thing_seen")
    hearer.failing[4] = ValueError("no")
    await hearer.offer(events, "order")
    assert hearer.called == [4, 1, 2, 3, *[4] * ATTEMPTS_MAX]
    assert (hearer.heard, await hearer.seq("order")) == ([1, 2, 3], 4)
    (row,) = hearer.parked
    assert (row["sequence"], row["attempts"]) == ("4", ATTEMPTS_MAX)


async def test_batch_with_a_hole_stops_before_it(hearer: Hearer):
    events = chain(4)
    applied = await hearer.inbox.apply("product", [*events[:2], events[3]])
    assert (applied.cursor.link, hearer.heard) == (events[1].link, [1, 2])


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
    assert again.retry_after_s == TWIN_S
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
    hearer.failing = {1: DatabaseBusy("no"), 2: DatabaseBusy("no")}
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


async def test_delivery_tries_and_commits_of_a_listener_are_steps_of_the_story(
    hearer: Hearer, tmp_path
):
    came = telemetry.new_trace()
    (event,) = chain(1, trace=Trace(came.traceparent, "", ""))
    hearer.failing[event.seq] = ValueError("not now")
    telemetry.recorder.start(tmp_path)
    try:
        await hearer.inbox.apply("product", [event])
        hearer.failing.clear()
        await hearer.inbox.apply("product", [event])
        await hearer.inbox.apply("product", chain(1, kind="thing_unheard_of", before=event.link))
    finally:
        telemetry.recorder.close()
    spans = codec.decode_lines((tmp_path / NEWER).read_bytes(), Span)
    assert {span.trace_id for span in spans} == {came.trace_id}
    named = {(span.kind, span.attributes.get("attempt")): span for span in spans}
    first, second = named["handler", 1], named["handler", 2]
    delivery = named["delivery", None]
    assert [span.kind for span in spans].count("delivery") == 1
    assert (first.name, first.status, second.status) == ("on_counted", "ValueError", "")
    assert delivery.parent_id == second.parent_id == came.span_id
    assert first.parent_id == delivery.span_id
    commits = {span.parent_id: span.name for span in spans if span.kind == "commit"}
    assert commits == {first.span_id: "rollback", second.span_id: "commit"}


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
    assert twin.streams == ("order", "product", "user")


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


async def test_event_that_fails_for_good_is_parked_and_the_stream_goes_on(hearer: Hearer):
    events = chain(4)
    hearer.failing[2] = ValueError("two is odd")
    await hearer.offer(events)
    assert hearer.heard == [1, 3, 4]
    assert await hearer.seq() == 4
    (row,) = hearer.parked
    assert row["id"] == event_id(events[1])
    assert (row["sequence"], row["attempts"]) == ("2", ATTEMPTS_MAX)
    assert (row["error_class"], row["error"]) == ("ValueError", "two is odd")
    assert str(row["handler"]).endswith("Hearer.on_counted")
    assert {"stream": "product", "seq": 4, "state": "live", "parked": 1} in hearer.inbox.counters()


async def test_event_that_cannot_be_read_is_parked(hearer: Hearer):
    events = chain(2)
    await hearer.offer([structs.replace(events[0], body=b"{", trace=b"["), events[1]])
    (row,) = hearer.parked
    assert row["error_class"] == "InvalidInput"
    shown = parked.plain(parked.found(hearer.room.database.read, events[0].id))
    assert (shown["data"], shown["trace_id"]) == ("{", None)


async def test_error_that_passes_parks_nothing_however_often(hearer: Hearer):
    hearer.failing[1] = DatabaseBusy("later")
    waits = await hearer.offer(chain(2))
    assert len(waits) == 3 * ATTEMPTS_MAX
    assert (hearer.parked, hearer.heard) == ([], [])
    assert {"stream": "product", "seq": 0, "state": "retrying", "parked": 0} in (
        hearer.inbox.counters()
    )


async def test_listener_that_asks_to_exit_is_an_event_that_fails(hearer: Hearer):
    hearer.failing[1] = SystemExit(3)
    await hearer.offer(chain(2))
    (row,) = hearer.parked
    assert row["error_class"] == "ListenerExitedError"
    assert hearer.heard == [2]


async def test_halting_listener_stops_its_stream_and_says_so(hearer: Hearer):
    hearer.inbox = hearer.another(halt=True)
    hearer.failing[2] = ValueError("no")
    waits = await hearer.offer(chain(3))
    assert (hearer.heard, hearer.parked) == ([1], [])
    assert waits[-1] == HALTED_S
    (complaint,) = hearer.inbox.complaints()
    assert "product is halted at event 2: ValueError: no" in complaint
    assert (await hearer.inbox.apply("order", chain(1, stream="order"))).cursor.link.seq == 1
    del hearer.failing[2]
    hearer.inbox = hearer.another(halt=True)
    await hearer.inbox.prepare()
    await hearer.offer(chain(0), "product")
    assert hearer.inbox.complaints() == [], "a new start tries again"


async def test_nothing_is_handed_to_listeners_while_the_database_takes_no_writes(
    hearer: Hearer, monkeypatch
):
    monkeypatch.setattr(type(hearer.room.database), "writable", property(lambda _: False))
    hearer.failing[1] = AssertionError("was handed over")
    applied = await hearer.inbox.apply("product", chain(1))
    assert (applied.cursor, applied.retry_after_s) == (Cursor(), PAUSE_S)


async def test_outage_parks_no_more_than_it_takes_to_see_it(hearer: Hearer):
    events = chain(20)
    hearer.failing = {event.seq: ValueError("no disk") for event in events}
    for _ in range(4):
        await hearer.offer(events)
    assert len(hearer.parked) == 2
    hearer.failing = {}
    await hearer.offer(events)
    assert len(hearer.parked) == 2
    assert hearer.heard == list(range(3, 21))


async def test_outage_is_remembered_by_the_next_process(hearer: Hearer):
    events = chain(20)
    hearer.failing = {event.seq: ValueError("no disk") for event in events}
    for _ in range(3):
        hearer.inbox = hearer.another()
        await hearer.inbox.prepare()
        await hearer.offer(events)
    assert len(hearer.parked) == 2


async def test_parked_event_is_applied_when_it_is_offered_again(hearer: Hearer):
    (event, other) = chain(2)
    hearer.failing[1] = ValueError("no")
    await hearer.offer([event, other])
    assert await hearer.inbox.retry(event.id) == "ValueError: no"
    (row,) = hearer.parked
    assert row["attempts"] == ATTEMPTS_MAX + 1
    hearer.failing[1] = DatabaseBusy("later")
    with pytest.raises(DatabaseBusy):
        await hearer.inbox.retry(event.id)
    assert hearer.parked[0]["attempts"] == ATTEMPTS_MAX + 1
    del hearer.failing[1]
    assert await hearer.inbox.retry(event.id) == ""
    assert (hearer.parked, hearer.heard) == ([], [2, 1])
    assert await hearer.seq() == 2, "the cursor never goes back"
    with pytest.raises(NotFound):
        await hearer.inbox.retry(event.id)


async def test_dropped_event_is_gone(hearer: Hearer):
    (event,) = chain(1)
    hearer.failing[1] = ValueError("no")
    await hearer.offer([event])
    await hearer.inbox.drop(event.id)
    assert hearer.parked == []
    with pytest.raises(NotFound):
        await hearer.inbox.drop(event.id)


class Fatal(Hearer):
    """Its process dies while a certain event is handled: what is left is the mark."""

    def __init__(self, made: Room, path) -> None:
        self.path = path
        super().__init__(made)

    def die_at(self, event: Event) -> None:
        mark = AttemptMark(self.path)
        mark.set(event.stream, event.epoch, event.seq)
        mark.close()

    async def start(self, died: str, *, halt: bool = False) -> ServiceInbox:
        self.inbox = self.another(halt=halt, mark=AttemptMark(self.path))
        await self.inbox.prepare(died)
        return self.inbox


@pytest.fixture
async def fatal(hearer: Hearer, tmp_path):
    return Fatal(hearer.room, tmp_path / "auth.attempt")


async def test_event_that_ends_the_process_is_parked_after_five_deaths(fatal: Fatal):
    events = chain(4)
    for _ in range(ATTEMPTS_MAX - 1):
        fatal.die_at(events[2])
        inbox = await fatal.start("exit 9")
        await inbox.apply("product", events[:2] if not fatal.heard else [])
        assert fatal.parked == []
    fatal.die_at(events[2])
    await fatal.start("exit 9")
    await fatal.offer(events)
    (row,) = fatal.parked
    assert (row["sequence"], row["attempts"]) == ("3", ATTEMPTS_MAX)
    assert row["error_class"] == "Crashed"
    assert "exit 9" in str(row["error"])
    assert fatal.heard == [1, 2, 4]


async def test_event_under_suspicion_is_handled_alone(fatal: Fatal):
    events = chain(5)
    fatal.die_at(events[2])
    inbox = await fatal.start("signal 11")
    batches = cursors.batches(events, inbox._suspects["product"], BATCH_MAX)
    groups = [[event.seq for event in batch] for batch in batches]
    assert groups == [[1, 2], [3], [4, 5]]
    await fatal.offer(events)
    assert (fatal.heard, fatal.parked) == ([1, 2, 3, 4, 5], [])


async def test_success_clears_what_was_counted(fatal: Fatal):
    events = chain(2)
    for _ in range(3):
        fatal.die_at(events[0])
        await fatal.start("exit 9")
    await fatal.offer(events[:1])
    (deaths,) = fatal.room.database.read.all(
        int, "SELECT crash_attempts FROM mlp_cursor WHERE stream = 'product'"
    )
    assert deaths == 0


async def test_deaths_of_other_events_do_not_add_up(fatal: Fatal):
    events = chain(2)
    for event in [*events, *events, *events]:
        fatal.die_at(event)
        await fatal.start("exit 9")
    await fatal.offer(events)
    assert (fatal.heard, fatal.parked) == ([1, 2], [])


async def test_death_that_somebody_wished_is_not_counted(fatal: Fatal):
    (event,) = chain(1)
    for _ in range(2 * ATTEMPTS_MAX):
        fatal.die_at(event)
        await fatal.start("")
    await fatal.offer([event])
    assert (fatal.heard, fatal.parked) == ([1], [])


async def test_death_behind_the_cursor_is_not_counted(fatal: Fatal):
    events = chain(2)
    await fatal.start("")
    await fatal.offer(events)
    for _ in range(ATTEMPTS_MAX):
        fatal.die_at(events[0])
        await fatal.start("exit 9")
    await fatal.offer(chain(1, before=events[1].link))
    assert (fatal.heard, fatal.parked) == ([1, 2, 3], [])


async def test_halting_listener_stops_after_five_deaths_and_a_start_by_hand_tries_again(
    fatal: Fatal,
):
    events = chain(2)
    for _ in range(ATTEMPTS_MAX):
        fatal.die_at(events[0])
        await fatal.start("exit 9", halt=True)
    await fatal.offer(events)
    assert (fatal.heard, fatal.parked) == ([], [])
    assert "halted at event 1" in fatal.inbox.complaints()[0]
    await fatal.start("", halt=True)
    await fatal.offer(events)
    assert fatal.heard == [1, 2]


async def test_unresolved_divergence_is_complained_of_until_somebody_has_looked(hearer: Hearer):
    events = chain(3)
    await hearer.inbox.notice("product", Epoch(1, 0, NO_HASH, b""), ORIGIN)
    await hearer.inbox.apply("product", events)
    base = events[0].link
    await hearer.inbox.notice("product", Epoch(2, base.seq, base.hash, b"n"), base)
    (complaint,) = hearer.inbox.complaints()
    assert "events 2 to 3" in complaint
    assert await hearer.room.database.write(divergence.resolve) == 1
    assert hearer.inbox.complaints() == []


async def test_many_parked_events_stop_neither_the_start_nor_the_counters(hearer: Hearer):
    many = chain(6000)

    def park(tx) -> None:
        for event in many:
            parked.insert(tx, event, "x.on_counted", ("ValueError", "no"), 5)

    await hearer.room.database.write(park)
    hearer.inbox = hearer.another()
    await hearer.inbox.prepare()
    (row,) = [row for row in hearer.inbox.counters() if row["stream"] == "product"]
    assert row["parked"] == parked.LISTED_MAX
    count, rows = await parked.listed(hearer.room.database)
    assert (count, len(rows)) == (6000, parked.LISTED_MAX)
