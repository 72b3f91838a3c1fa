"""Events out: one chain of rows in the service's own commits, read in bounded pages."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import replace
from itertools import pairwise

import pytest
from msgspec import Struct

from mesh import clock, codec
from mesh.bus import EVENT_BYTES_MAX, NO_HASH, ORIGIN, Epoch, Link, Position, Trace, chain_hash
from mesh.errors import Broken, StorageFull, TooLarge
from mesh.framework import ANYONE, Operation, Service, Tells, outbox
from mesh.framework.outbox import ServiceOutbox
from tests.services.in_process import Room, room

MANY = 300


class Said(Struct, frozen=True):
    id: str
    text: str


class Unheard(Struct, frozen=True):
    id: str


async def _nothing(ctx, request):
    """Do nothing."""


SERVICE = Service(
    name="auth",
    summary="Says things.",
    operations=(
        Operation("say", "POST /said", _nothing, Said, Said, allow=ANYONE, example=Said("", "")),
    ),
    tells=(Tells("auth.thing_said", Said, key="id"),),
)


@pytest.fixture
async def teller(tmp_path):
    async with room(SERVICE, tmp_path) as made:
        yield made


@pytest.fixture
def log(teller: Room) -> ServiceOutbox:
    return ServiceOutbox(teller.database, "auth")


class Looking:
    """A transaction of which is noted what is read."""

    def __init__(self, inner, looks: list[str]) -> None:
        self._inner, self._looks = inner, looks

    def one(self, shape, sql, **params):
        self._looks.append(sql)
        return self._inner.one(shape, sql, **params)

    def __getattr__(self, name):
        return getattr(self._inner, name)


def say(tx, *texts: str) -> None:
    for text in texts:
        tx.tell(Said(f"id-{text}", text))


async def test_events_form_one_contiguous_chain(teller: Room, log: ServiceOutbox):
    await asyncio.gather(*(teller.transact(say, f"{n}a", f"{n}b") for n in range(MANY // 2)))
    events = await log.after(0, rows_max=MANY + 1, bytes_max=10**9)
    assert [event.seq for event in events] == list(range(1, MANY + 1))
    before = ORIGIN
    for event in events:
        assert event.previous == before
        assert event.hash == chain_hash(
            before.hash,
            event.epoch,
            event.seq,
            event.id,
            event.type,
            event.key,
            event.ts_ms,
            event.trace,
            event.body,
        )
        before = event.link
    assert before == (await log.state()).head
    assert len({event.id for event in events}) == MANY


async def test_event_carries_what_was_told(teller: Room, log: ServiceOutbox, monkeypatch):
    monkeypatch.setattr(clock, "now_ms", lambda: 1_700_000_000_123)
    await teller.transact(say, "hello")
    (event,) = await log.after(0, rows_max=9, bytes_max=999)
    assert (event.stream, event.type, event.key) == ("auth", "auth.thing_said", "id-hello")
    assert event.ts_ms == 1_700_000_000_123
    assert codec.decode(event.body, Said) == Said("id-hello", "hello")
    assert codec.decode(event.trace, Trace).cause == "test"


@pytest.fixture
def following(teller: Room, log: ServiceOutbox):
    """The log hears of every commit, as in a running service."""
    teller.wires = replace(teller.wires, vocabulary=replace(teller.wires.vocabulary, told=log.told))
    return log


def looked(teller: Room, monkeypatch) -> list[int]:
    """Beyond which event the table was read."""
    looks, read = [], teller.database.read
    everything = read.all

    def reads(shape, sql, **params):
        looks.append(params.get("seq"))
        return everything(shape, sql, **params)

    monkeypatch.setattr(read, "all", reads)
    return looks


async def test_events_at_hand_are_those_of_the_table(teller, following, monkeypatch):
    looks = looked(teller, monkeypatch)
    await asyncio.gather(*(teller.transact(say, f"{n}a", f"{n}b") for n in range(20)))
    for seq in (0, 1, 17, 39):
        for rows_max, bytes_max in ((5, 10**9), (100, 10**9), (100, 60)):
            page = {"rows_max": rows_max, "bytes_max": bytes_max}
            assert await following.after(seq, **page)
            assert looks == []
            table = ServiceOutbox(teller.database, "auth")
            assert await following.after(seq, **page) == await table.after(seq, **page)
            looks.clear()
    assert await following.after(40, rows_max=9, bytes_max=999) == []
    assert looks == [40], "who else has told is in the table"


async def test_events_not_at_hand_are_read_from_the_table(teller, following, monkeypatch):
    monkeypatch.setattr(following, "_recent", deque(maxlen=3))
    for n in range(6):
        await teller.transact(say, f"{n}")
    page = {"rows_max": 9, "bytes_max": 999}
    assert [each.seq for each in await following.after(0, **page)] == [1, 2, 3, 4, 5, 6]
    assert [each.seq for each in await following.after(3, **page)] == [4, 5, 6]
    big = Said("big", "x" * outbox.RECENT_BYTES_MAX)
    await teller.transact(lambda tx: tx.tell(big))
    await teller.transact(say, "last")
    assert [each.seq for each in await following.after(5, **page)] == [6]
    assert [each.seq for each in await following.after(6, **page)] == [7]
    assert [each.seq for each in await following.after(7, **page)] == [8]


async def test_event_told_unheard_makes_no_hole(teller, following):
    plain = replace(teller.wires, vocabulary=replace(teller.wires.vocabulary, told=lambda _: None))
    heard = teller.wires
    await teller.transact(say, "a")
    teller.wires = plain
    await teller.transact(say, "b")
    assert [each.seq for each in await following.after(1, rows_max=9, bytes_max=999)] == [2]
    teller.wires = heard
    await teller.transact(say, "c")
    assert [each.seq for each in await following.after(0, rows_max=9, bytes_max=999)] == [1, 2, 3]
    assert [each.seq for each in await following.after(1, rows_max=9, bytes_max=999)] == [2, 3]


async def test_nothing_is_told_when_the_transaction_fails(teller: Room, log: ServiceOutbox):
    def fails(tx):
        say(tx, "lost")
        raise ValueError("no")

    await teller.transact(say, "first")
    head = (await log.state()).head
    with pytest.raises(ValueError, match="no"):
        await teller.transact(fails)
    assert (await log.state()).head == head
    await teller.transact(say, "second")
    assert [event.key for event in await log.after(0, rows_max=9, bytes_max=999)] == [
        "id-first",
        "id-second",
    ]


async def test_tell_refuses_what_the_table_does_not_declare(teller: Room):
    with pytest.raises(Broken, match="Unheard"):
        await teller.transact(lambda tx: tx.tell(Unheard("1")))


async def test_state_is_the_origin_before_the_first_event(log: ServiceOutbox):
    state = await log.state()
    assert (state.head, state.tail_seq) == (ORIGIN, 1)
    (first,) = state.epochs
    assert (first.epoch, first.base, first.base_hash) == (1, 0, NO_HASH)
    assert len(first.nonce) == outbox.NONCE_BYTES


async def test_found_epoch_founds_once(teller: Room, log: ServiceOutbox):
    before = (await log.state()).epochs
    await teller.database.write(outbox.found_epoch)
    assert (await log.state()).epochs == before


async def test_end_of_the_log_is_read_once_and_after_it_was_undone(
    teller: Room, log: ServiceOutbox
):
    looks = []

    def told(tx, *texts):
        tx._inner = Looking(tx._inner, looks)
        say(tx, *texts)
        if "x" in texts:
            raise ValueError("no")

    await teller.transact(told, "a", "b")
    await teller.transact(told, "c")
    assert len(looks) == 1
    with pytest.raises(ValueError, match="no"):
        await teller.transact(told, "x")
    await teller.transact(told, "d")
    await teller.transact(told, "e")
    assert len(looks) == 2
    events = await log.after(0, rows_max=9, bytes_max=9999)
    assert [event.key for event in events] == ["id-a", "id-b", "id-c", "id-d", "id-e"]
    for before, event in pairwise(events):
        assert event.previous == before.link


async def test_event_goes_on_from_one_that_another_log_wrote(teller: Room, log: ServiceOutbox):
    """Also where what was undone and what was told instead have the same number."""
    words = teller.wires.vocabulary

    def fails(tx):
        say(tx, "lost")
        raise ValueError("no")

    await teller.transact(say, "a")
    with pytest.raises(ValueError, match="no"):
        await teller.transact(fails)
    teller.wires.vocabulary = replace(words, log=outbox.Log())
    await teller.transact(say, "b")
    teller.wires.vocabulary = words
    await teller.transact(say, "c")
    a, b, c = await log.after(0, rows_max=9, bytes_max=9999)
    assert (b.previous, c.previous) == (a.link, b.link)


async def test_chain_holds_where_neighbours_in_the_same_commit_are_undone(
    teller: Room, log: ServiceOutbox
):
    def some(tx, number: int) -> None:
        say(tx, f"{number}a", f"{number}b")
        if number % 3 == 1:
            raise ValueError("no")

    asked = [teller.transact(some, number) for number in range(12)]
    failed = [type(each) for each in await asyncio.gather(*asked, return_exceptions=True)]
    assert failed.count(ValueError) == 4
    events = await log.after(0, rows_max=99, bytes_max=10**6)
    stay = [number for number in range(12) if number % 3 != 1]
    assert [event.key for event in events] == [f"id-{n}{part}" for n in stay for part in "ab"]
    assert events[0].previous == ORIGIN
    for before, event in pairwise(events):
        assert event.previous == before.link
    assert (await log.state()).head == events[-1].link


async def test_each_event_is_a_step_of_its_own_in_the_same_story(teller: Room, log: ServiceOutbox):
    followed: list[outbox.Told] = []
    teller.wires.vocabulary = replace(teller.wires.vocabulary, told=followed.append)
    await teller.transact(say, "a", "b")
    a, b = followed
    assert (a.trace.trace_id, a.parent_id) == (b.trace.trace_id, b.parent_id)
    assert len({a.parent_id, a.trace.span_id, b.trace.span_id}) == 3
    assert [told.event for told in followed] == await log.after(0, rows_max=9, bytes_max=999)
    for told in followed:
        assert codec.decode(told.event.trace, Trace).traceparent == told.trace.traceparent


async def test_state_tells_head_and_oldest_row(teller: Room, log: ServiceOutbox):
    await teller.transact(say, "a", "b", "c")
    events = await log.after(0, rows_max=9, bytes_max=999)
    await teller.transact(lambda tx: tx.execute("DELETE FROM outbox WHERE seq <= 2"))
    state = await log.state()
    assert (state.head, state.tail_seq) == (events[-1].link, 3)


async def test_a_new_epoch_continues_sequence_and_chain(teller: Room, log: ServiceOutbox):
    await teller.transact(say, "a")
    (first,) = await log.after(0, rows_max=9, bytes_max=999)
    await teller.transact(
        lambda tx: tx.execute(
            "INSERT INTO mlp_epoch (epoch, base, base_hash, nonce) VALUES (2, 1, :hash, x'00')",
            hash=first.hash,
        )
    )
    await teller.transact(say, "b")
    (second,) = await log.after(1, rows_max=9, bytes_max=999)
    assert (second.link.epoch, second.seq, second.previous) == (2, 2, first.link)
    state = await log.state()
    assert state.epochs[1] == Epoch(2, 1, first.hash, b"\0")
    assert state.head == second.link


async def test_after_keeps_to_the_rows_asked_for(teller: Room, log: ServiceOutbox):
    await teller.transact(say, *map(str, range(10)))
    for start, rows_max, expected in [(0, 4, [1, 2, 3, 4]), (7, 4, [8, 9, 10]), (10, 4, [])]:
        found = await log.after(start, rows_max=rows_max, bytes_max=10**6)
        assert [event.seq for event in found] == expected


async def test_after_keeps_to_the_bytes_but_gives_at_least_one(teller: Room, log: ServiceOutbox):
    await teller.transact(say, "x" * 1000, "y" * 1000, "z" * 1000)
    sizes = [len(event.body) for event in await log.after(0, rows_max=9, bytes_max=10**6)]
    for bytes_max, expected in [
        (1, 1),
        (sizes[0], 1),
        (sizes[0] + sizes[1] - 1, 1),
        (sizes[0] + sizes[1], 2),
        (sum(sizes) - 1, 2),
        (sum(sizes), 3),
    ]:
        assert len(await log.after(0, rows_max=9, bytes_max=bytes_max)) == expected


async def test_append_refuses_a_body_over_the_bound(teller: Room, log: ServiceOutbox):
    frame = len(codec.encode(Said("id", "")))
    await teller.transact(lambda tx: tx.tell(Said("id", "x" * (EVENT_BYTES_MAX - frame))))
    (largest,) = await log.after(0, rows_max=9, bytes_max=1)
    assert len(largest.body) == EVENT_BYTES_MAX
    with pytest.raises(TooLarge):
        await teller.transact(lambda tx: tx.tell(Said("id", "x" * (EVENT_BYTES_MAX - frame + 1))))
    assert (await log.state()).head == largest.link


async def test_acknowledged_only_grows(teller: Room, log: ServiceOutbox):
    await teller.transact(say, *map(str, range(9)))
    assert log.counters() == {"epoch": 1, "head": 9, "acked": 0}
    for told, expected in [((1, 3), 3), ((1, 2), 3), ((1, 9), 9), ((1, 9), 9), ((1, 0), 9)]:
        await log.acknowledged(Position(*told))
        assert log.counters()["acked"] == expected


async def test_acknowledged_of_a_newer_epoch_counts_more_than_a_longer_old_one(
    teller: Room, log: ServiceOutbox
):
    await log.acknowledged(Position(1, 9))
    await log.acknowledged(Position(2, 4))
    await log.acknowledged(Position(1, 20))
    assert log.counters()["acked"] == 4


async def test_told_wakes_only_after_a_commit(tmp_path):
    async with room(SERVICE, tmp_path) as made:
        woken: list[int] = []
        seen = ServiceOutbox(made.database, "auth")
        object.__setattr__(
            made.wires.vocabulary, "told", lambda _: woken.append(seen.counters()["head"])
        )

        def fails(tx):
            say(tx, "lost")
            raise ValueError("no")

        await made.transact(say, "a")
        with pytest.raises(ValueError, match="no"):
            await made.transact(fails)
        assert woken == [1], "called once, when the row could be read"


def test_link_is_all_zero_at_the_origin():
    assert Link(0, 0, bytes(16)) == ORIGIN


async def test_told_beyond_what_may_wait_for_the_bus_is_refused_as_for_want_of_space(
    teller: Room, log: ServiceOutbox, monkeypatch
):
    monkeypatch.setattr(outbox, "PENDING_MAX", 3)
    teller.wires.vocabulary = replace(teller.wires.vocabulary, acked=lambda: log.acked_seq)
    await teller.transact(say, "a", "b", "c")
    with pytest.raises(StorageFull) as refused:
        await teller.transact(say, "d")
    assert refused.value.code == "outbox-full"
    assert [told.data["text"] for told in teller.told()] == ["a", "b", "c"], "nothing is dropped"
    await log.acknowledged(Position(1, 2))
    await teller.transact(say, "d", "e")
    with pytest.raises(StorageFull):
        await teller.transact(say, "f")


async def test_acknowledged_position_outlives_the_process_with_the_next_event(
    teller: Room, log: ServiceOutbox, monkeypatch
):
    monkeypatch.setattr(outbox, "PENDING_MAX", 3)
    words = teller.wires.vocabulary
    teller.wires.vocabulary = replace(words, acked=lambda: log.acked_seq)
    await teller.transact(say, "a", "b")
    await log.acknowledged(Position(1, 2))
    await teller.transact(say, "c")
    teller.wires.vocabulary = words
    await teller.transact(say, "d", "e")
    with pytest.raises(StorageFull):
        await teller.transact(say, "f")


async def test_old_events_go_once_the_bus_has_them_and_the_newest_stays(
    teller: Room, log: ServiceOutbox
):
    await teller.transact(say, *"abcde")
    assert await log.trim(keep_ms=-1000) == 0, "the bus has none of them"
    await log.acknowledged(Position(1, 3))
    assert await log.trim() == 0, "they are young"
    assert await log.trim(keep_ms=-1000) == 3
    state = await log.state()
    assert (state.tail_seq, state.before.seq, state.head.seq) == (4, 3, 5)
    first = (await log.after(3, rows_max=1, bytes_max=1))[0]
    assert first.previous == state.before
    await log.acknowledged(Position(1, 5))
    assert await log.trim(keep_ms=-1000) == 1
    assert (await log.state()).tail_seq == 5
    await teller.transact(say, "f")
    assert (await log.after(5, rows_max=9, bytes_max=9999))[0].seq == 6


async def test_long_outbox_is_trimmed_in_pieces(teller: Room, log: ServiceOutbox, monkeypatch):
    monkeypatch.setattr(outbox, "TRIM_ROWS_MAX", 4)
    await teller.transact(say, *"abcdefghij")
    await log.acknowledged(Position(1, 10))
    assert [await log.trim(keep_ms=-1000) for _ in range(4)] == [4, 4, 1, 0]


async def test_key_that_the_bus_would_never_take_is_refused(teller: Room, log: ServiceOutbox):
    with pytest.raises(TooLarge):
        await teller.transact(say, "ü" * 1600)


async def test_long_outbox_is_read_within_the_bound_of_a_read(teller: Room, log: ServiceOutbox):
    """Neither what is announced nor what is sent may cost more the longer the outbox is."""

    def say_many(tx) -> None:
        for number in range(2500):
            tx.tell(Said(f"id-{number}", "x"))

    for _ in range(4):
        await teller.transact(say_many)
    state = await log.state()
    assert (state.tail_seq, state.head.seq) == (1, 10_000)
    assert [each.seq for each in await log.after(9_000, rows_max=2, bytes_max=999)] == [9001, 9002]
    assert await log.trim() == 0
    assert log.counters()["head"] == 10_000
