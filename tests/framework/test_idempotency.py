"""Keys: what is kept of a request, for whom and for how long, and what a retry finds."""

from __future__ import annotations

import asyncio
from types import NoneType
from typing import Annotated

import aiohttp
import pytest
from msgspec import Struct

from mesh import clock, codec, telemetry, tokens
from mesh.errors import InvalidInput
from mesh.framework import ANYONE, SECRET, Caller, Context, Operation, Service, drain, idempotency
from mesh.framework.app import App
from mesh.framework.metrics import Metrics
from tests.framework.server import CALLS, behind, identity_of
from tests.services.in_process import PROJECT, Clock, room

ALICE = Caller("user", "usr_alice", ("customer",))
BOB = Caller("user", "usr_bob", ("customer",))


class Note(Struct, frozen=True, forbid_unknown_fields=True):
    text: str
    password: Annotated[str, SECRET] = ""


class Kept(Struct, frozen=True):
    id: str
    text: str
    ticket: Annotated[str, SECRET] = ""


class Stored(Struct):
    """What is kept of one request."""

    entity: str
    status: int | None
    answer: bytes | None


class Died(BaseException):
    """The process is gone."""


class Desk:
    """A service that keeps notes in a table of its own."""

    def __init__(self) -> None:
        self.ran = 0
        self.dies_after_first_write = False
        self.service = Service(
            name="desk",
            summary="Notes.",
            operations=tuple(
                Operation(
                    name,
                    f"POST /{name}",
                    action,
                    Note,
                    gives,
                    allow=ANYONE,
                    example=Note("a"),
                    status=status,
                    key="optional",
                )
                for name, action, gives, status in (
                    ("keep", self.keep, Kept, 201),
                    ("late", self.late, Kept, 201),
                    ("forget", self.forget, NoneType, 204),
                )
            ),
        )

    async def keep(self, ctx, request):
        """Write, then answer."""
        self.ran += 1
        return await ctx.conclude(self._kept, ctx.entity_id("nte"), request.text)

    @staticmethod
    def _kept(_, note_id, text):
        return Kept(note_id, text, ticket=clock.random_hex(8))

    async def late(self, ctx, request):
        """Ask for the entity's id only after a first write."""
        self.ran += 1
        await ctx.write(lambda _: None)
        note_id = ctx.entity_id("nte")
        await ctx.write(lambda _: None)
        if self.dies_after_first_write:
            raise Died(note_id)
        return await ctx.conclude(self._kept, note_id, request.text)

    async def forget(self, ctx, request):
        """Answer nothing."""
        self.ran += 1
        return await ctx.conclude(lambda _: None)


@pytest.fixture
async def desk(tmp_path):
    made = Desk()
    async with room(made.service, tmp_path) as made.room:
        yield made


def rows(desk) -> int:
    return desk.room.database.read.one(int, "SELECT count(*) FROM request")


async def test_answer_is_kept_without_its_secrets(desk, tmp_path):
    first = await desk.room.ask("keep", Note("a", "hunter2hunter2"), caller=ALICE, key="k")
    again = await desk.room.ask("keep", Note("a", "hunter2hunter2"), caller=ALICE, key="k")
    assert first.ticket
    assert again == Kept(first.id, "a")
    assert desk.ran == 1
    await desk.room.database.close()
    found = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert first.id.encode() in found
    assert first.ticket.encode() not in found
    assert b"hunter2hunter2" not in found


async def test_secret_does_not_make_another_request(desk):
    first = await desk.room.ask("keep", Note("a", "one"), caller=ALICE, key="k")
    assert (await desk.room.ask("keep", Note("a", "two"), caller=ALICE, key="k")).id == first.id
    with pytest.raises(InvalidInput):
        await desk.room.ask("keep", Note("b", "one"), caller=ALICE, key="k")


async def test_key_is_ones_own(desk):
    first = await desk.room.ask("keep", Note("a"), caller=ALICE, key="k")
    other = await desk.room.ask("keep", Note("b"), caller=BOB, key="k")
    service = await desk.room.ask("keep", Note("c"), caller=Caller("service", "usr_bob"), key="k")
    assert len({first.id, other.id, service.id}) == 3


async def test_nobody_in_particular_gets_the_same_entity_but_no_stored_answer(desk):
    first = await desk.room.ask("keep", Note("a"), key="k")
    again = await desk.room.ask("keep", Note("a"), key="k")
    assert first.id == again.id
    assert first.ticket != again.ticket
    assert desk.ran == 2
    assert desk.room.database.read.one(int, "SELECT count(answer) FROM request") == 0


async def test_entity_is_the_same_again_when_its_id_was_needed_after_the_first_write(desk):
    desk.dies_after_first_write = True
    with pytest.raises(Died) as died:
        await desk.room.ask("late", Note("a"), caller=ALICE, key="k")
    desk.dies_after_first_write = False
    desk.room._running = idempotency.Running()
    assert (await desk.room.ask("late", Note("a"), caller=ALICE, key="k")).id == str(died.value)


async def test_empty_answer_is_replayed_as_empty(desk, tmp_path):
    directory = tmp_path / "identity"
    tokens.provision(directory, project=PROJECT, calls={**CALLS, "desk": ()})
    operator = tokens.provision(directory, project=PROJECT, calls={"desk": (), "peer": ("desk",)})
    who = identity_of(directory, "desk")
    app = App(desk.service, desk.room.wires, who, Metrics(), {}, lambda _: None)
    headers = {
        "Authorization": f"Bearer {operator.token('peer', 'desk')}",
        "Idempotency-Key": "k",
    }
    door = drain.Server(app)
    async with behind(door) as port, aiohttp.ClientSession() as session:
        for replayed in (None, "true"):
            async with session.post(
                f"http://127.0.0.1:{port}/forget", json={"text": "a"}, headers=headers
            ) as answer:
                assert (answer.status, await answer.read()) == (204, b"")
                assert "Content-Type" not in answer.headers
                assert answer.headers.get("Idempotent-Replayed") == replayed
    assert desk.ran == 1


async def test_sweep_forgets_every_key_after_a_day_and_none_before(desk, monkeypatch):
    wall = Clock(monkeypatch)
    old = 2 * idempotency.SWEEP_MAX + 1
    for n in range(old):
        await desk.room.ask("keep", Note("a"), caller=ALICE, key=f"old {n}")
    wall.forward(1)
    await desk.room.ask("keep", Note("a"), caller=ALICE, key="young")
    wall.now_ms += idempotency.KEEP_MS - 1000
    await idempotency.sweep(desk.room.database)
    assert rows(desk) == old + 1
    wall.now_ms += 1
    before = desk.room.database.commits
    await idempotency.sweep(desk.room.database)
    assert desk.room.database.commits - before >= 3, "in several transactions"
    assert desk.room.database.read.all(str, "SELECT key FROM request") == ["young"]


async def test_keys_of_a_clock_that_was_ahead_do_not_keep_those_after_them(desk, monkeypatch):
    wall = Clock(monkeypatch)
    year_ms = 365 * idempotency.KEEP_MS
    wall.now_ms += year_ms
    for n in range(idempotency.SWEEP_MAX):
        await desk.room.ask("keep", Note("a"), caller=ALICE, key=f"ahead {n}")
    wall.now_ms -= year_ms
    await desk.room.ask("keep", Note("a"), caller=ALICE, key="now")
    wall.now_ms += idempotency.KEEP_MS + 1
    await idempotency.sweep(desk.room.database)
    assert rows(desk) == idempotency.SWEEP_MAX
    assert kept_of(desk.room, "now") == []


async def test_clock_that_is_behind_for_a_while_forgets_no_key(desk, monkeypatch):
    wall = Clock(monkeypatch)
    first = await desk.room.ask("keep", Note("a"), caller=ALICE, key="k")
    wall.now_ms -= 365 * idempotency.KEEP_MS
    await desk.room.ask("keep", Note("b"), caller=ALICE, key="behind")
    await idempotency.sweep(desk.room.database)
    wall.now_ms += 365 * idempotency.KEEP_MS
    assert (await desk.room.ask("keep", Note("a"), caller=ALICE, key="k")).id == first.id
    assert desk.ran == 2


async def test_forgotten_key_is_a_new_request(desk, monkeypatch):
    wall = Clock(monkeypatch)
    first = await desk.room.ask("keep", Note("a"), caller=ALICE, key="k")
    wall.now_ms += idempotency.KEEP_MS + 1
    await idempotency.sweep(desk.room.database)
    assert (await desk.room.ask("keep", Note("b"), caller=ALICE, key="k")).id != first.id


@pytest.mark.parametrize("key", ["", "k" * 256, "käse", "a\nb", "\x7f", "a\0"])
def test_key_is_refused_when_it_is_not_short_printable_ascii(key):
    with pytest.raises(InvalidInput):
        idempotency.keyed(ALICE, "keep", key, Note("a"))


def test_fingerprint_tells_members_apart():
    def fingerprint(text: str, password: str = "") -> bytes:
        return idempotency.keyed(ALICE, "keep", "k", Note(text, password)).fingerprint

    assert fingerprint("a") == fingerprint("a", "secret")
    assert fingerprint("a") != fingerprint("b")
    assert codec.secret_fields(Note) == {"password"}


@pytest.fixture
async def keyed(desk, tmp_path):
    """A room, and contexts in it of requests that carry a key."""
    async with room(desk.service, tmp_path / "desk") as made:

        def context(key: str):
            until_s = clock.monotonic_s() + 60
            ctx = Context(made.wires, ALICE, telemetry.new_trace(), "req_test", until_s)
            ctx.keyed = idempotency.keyed(ALICE, "keep", key, Note("a"))
            ctx.status = 201
            return ctx

        yield made, context


def kept_of(made, key: str) -> list[Stored]:
    sql = "SELECT entity, status, answer FROM request WHERE key = :key"
    return made.database.read.all(Stored, sql, key=key)


def _keep(tx, entity: str) -> Kept:
    return Kept(entity, "a")


async def test_key_and_answer_of_a_lone_write_are_one_statement(keyed):
    made, context = keyed
    said: list[str] = []
    await made.database.write(lambda tx: tx._statements.connection.set_trace_callback(said.append))
    said.clear()
    ctx = context("one")
    await ctx.conclude(_keep, ctx.entity_id("note"))
    assert [each.split()[0] for each in said] == ["BEGIN", "INSERT", "COMMIT"]
    (row,) = kept_of(made, "one")
    assert (row.entity, row.status) == (ctx.keyed.entity, 201)
    again = context("one")
    assert codec.decode(idempotency.find(made.database.read, again.keyed).body, Kept).text == "a"


async def test_what_is_refused_before_a_change_leaves_its_neighbours_alone(keyed):
    """Their group would be undone and run again."""
    made, context = keyed
    ran: list[str] = []

    def keep(tx, key):
        ran.append(key)
        return Kept(key, "a")

    def refuse(tx):
        ran.append("refused")
        raise InvalidInput("no")

    outcomes = await asyncio.gather(
        context("a").write(keep, "a"),
        context("b").conclude(refuse),
        context("c").write(refuse),
        context("d").conclude(keep, "d"),
        return_exceptions=True,
    )
    assert [type(each) for each in outcomes] == [Kept, InvalidInput, InvalidInput, Kept]
    assert ran == ["a", "refused", "refused", "d"]
    assert [len(kept_of(made, key)) for key in "abcd"] == [1, 0, 0, 1]


async def test_first_answer_stands_and_an_entity_that_is_known_later_is_noted(keyed):
    made, context = keyed
    first, second = context("k"), context("k")
    await first.write(lambda tx: None)
    assert [(row.entity, row.answer) for row in kept_of(made, "k")] == [("", None)]
    await first.conclude(_keep, first.entity_id("note"))
    second.keyed.entity = "note_other"
    second.status = 200
    await second.conclude(_keep, "note_other")
    (row,) = kept_of(made, "k")
    assert (row.entity, row.status) == (first.keyed.entity, 201)
    assert codec.decode(row.answer, Kept).id == first.keyed.entity


async def test_key_of_a_request_that_erases_its_caller_is_erased(keyed):
    made, context = keyed
    ctx = context("gone")
    await ctx.write_aside(lambda tx: idempotency.forget_caller(tx, ALICE.subject))
    await ctx.conclude(_keep, "x")
    assert kept_of(made, "gone") == []
