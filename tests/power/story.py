"""What runs while it is recorded, and what must hold of the files that a cut leaves.

A shop in small: orders and their events in one commit of a service's database, copied to the
bus's log, applied in another service's database. Everything that is told durable leaves a mark.
Both sides copy their write-ahead logs back often, since that is where order matters most. What the
other database applies is delayed: a cut takes it back and it is handed over again. Some of it is
answered with an event, and what that follows is durable.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from mesh import clock, codec, database
from mesh.bus import ORIGIN, Trace
from mesh.buses.zmq.log import Advancing, Group, Log
from mesh.buses.zmq.protocol.lineage import intact
from mesh.databases.sqlite import checkpoints, connections, delay
from mesh.errors import MeshError
from mesh.framework import Listener, Tells, identity
from mesh.framework.inbox import ServiceInbox
from mesh.framework.outbox import ServiceOutbox, found_epoch
from mesh.framework.transaction import Vocabulary
from tests.power.recorder import Mark

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mesh.database import Database
    from tests.power.recorder import Operation

FRAMEWORK = Path(identity.__file__).parent / "schema"
TELLER, HEARER, STREAM = "order", "product", "order"
WAL_BYTES = 64 * 1024
LOG_COMMITS = 8
"""Commits of the log between two checkpoints."""

LINES_MAX = 400
EVERYTHING = {"rows_max": 10**6, "bytes_max": 10**9}
TABLES = database.Migration(
    "power",
    1,
    "CREATE TABLE orders (number INTEGER PRIMARY KEY, lines TEXT NOT NULL) STRICT;"
    "CREATE TABLE effect (number INTEGER PRIMARY KEY) STRICT;",
)
TRACE = codec.decode(b"{}", Trace)
ANSWERED_EACH = 8


class Placed(Struct, frozen=True):
    number: int


class Answered(Struct, frozen=True):
    number: int


WORDS = Vocabulary(
    {Answered: Tells("product.answered", Answered, key="number")},
    frozenset(),
    lambda _: None,
)


def _place(tx, number: int, lines: str) -> None:
    tx.execute("INSERT INTO orders VALUES (:n, :lines)", n=number, lines=lines)
    body, now_ms = codec.encode(Placed(number)), clock.now_ms()
    WORDS.log.append(
        tx, event_type="order.placed", key=str(number), trace=TRACE, body=body, ts_ms=now_ms
    )


def _hear(tx, data: Placed) -> None:
    tx.execute("INSERT INTO effect VALUES (:n)", n=data.number)
    if data.number % ANSWERED_EACH == 0:
        tx.tell(Answered(data.number))


LISTENER = Listener("order.placed", _hear, Placed)


@contextlib.contextmanager
def small_logs() -> Iterator[None]:
    kept = connections.WRITER["journal_size_limit"], checkpoints.WAL_BYTES, checkpoints.LOOK_COMMITS
    wary = delay.WARY_GROUPS
    connections.WRITER["journal_size_limit"] = checkpoints.WAL_BYTES = WAL_BYTES
    checkpoints.LOOK_COMMITS, delay.WARY_GROUPS = 4, 1
    try:
        yield
    finally:
        connections.WRITER["journal_size_limit"] = kept[0]
        checkpoints.WAL_BYTES, checkpoints.LOOK_COMMITS = kept[1:]
        delay.WARY_GROUPS = wary


async def _opened(directory: Path, name: str) -> Database:
    store = await database.connect("sqlite://", directory / name, name)
    await store.migrate([*database.found_in(FRAMEWORK, "mesh"), TABLES])
    await store.write(found_epoch)
    return store


async def tell(directory: Path, orders: int, notes: list[Operation], seed: int) -> None:
    """Place orders, and copy their events to the log and into the other database."""
    chance = random.Random(seed)
    teller, hearer = await _opened(directory, TELLER), await _opened(directory, HEARER)
    outbox, answers = ServiceOutbox(teller, STREAM), ServiceOutbox(hearer, HEARER)
    words = replace(WORDS, told=lambda told: notes.append(Mark("answer", told.event.seq)))
    inbox = ServiceInbox(hearer, words, (LISTENER,))
    await inbox.prepare()
    log = Log(directory / "bus")
    first = (await outbox.state()).epochs
    log.stage(Group(advances=(Advancing(STREAM, first, ORIGIN),)))
    log.commit()
    await inbox.notice(STREAM, first[0], ORIGIN)
    notes.append(Mark("ready", 0))
    placed = logged = commits = 0

    async def place(number: int) -> None:
        await teller.write(_place, number, "x" * chance.randrange(LINES_MAX))
        notes.append(Mark("order", number))

    while placed < orders:
        several = min(chance.randrange(1, 6), orders - placed)
        await asyncio.gather(*(place(placed + n + 1) for n in range(several)))
        placed += several
        events = tuple(await outbox.after(logged, **EVERYTHING))
        log.stage(Group(events=events))
        log.commit()
        logged = events[-1].seq
        notes.append(Mark("log", logged))
        commits += 1
        if commits % LOG_COMMITS == 0:
            log.checkpoint()
        applied = await inbox.apply(STREAM, log.read(STREAM, events[0].seq - 1, 1000, 10**9))
        notes.append(Mark("applied", applied.cursor.link.seq))
        read = await answers.after(0, **EVERYTHING)  # as the bus would, and give it to everybody
        notes.append(Mark("answer", len(read)))
    log.close()
    await hearer.close()
    await teller.close()


class _Order(Struct):
    number: int


async def verdict(directory: Path, told: dict[str, int]) -> tuple[str, int]:
    """What is wrong with these files, as the shipped code opens them, or ""; and what is taken back.

    Args:
        told: how far each mark had come when the power went.

    Returns: the last is how many applied events have to be applied again.
    """
    async with contextlib.AsyncExitStack() as opened:
        try:
            stores: list[Database] = []
            for name in (TELLER, HEARER):
                store = await database.connect("sqlite://", directory / name, name)
                opened.push_async_callback(store.close)
                await store.check_after_crash()
                stores.append(store)
            log = Log(directory / "bus")
            opened.callback(log.close)
        except MeshError as error:
            return f"corrupt: {error}", 0
        if list((directory / "bus").glob("*damaged*")):
            return "corrupt: the log was set aside", 0
        try:
            inbox = ServiceInbox(stores[1], WORDS, (LISTENER,))
            at = (await inbox.cursor(STREAM)).link.seq
            wrong = await _lost(*stores, log, told)
            again = log.read(STREAM, at, 10**6, 10**9)
            if not wrong and again:
                await inbox.apply(STREAM, again)
                wrong = await _lost(*stores, log, {**told, "applied again": len(again) + at})
        except MeshError as error:
            return f"lost: {error}", 0
        return wrong, max(0, told.get("applied", 0) - at)


async def _lost(teller: Database, hearer: Database, log: Log, told: dict[str, int]) -> str:
    outbox = ServiceOutbox(teller, STREAM)
    orders = await teller.scan(_Order, "SELECT number FROM orders ORDER BY number")
    effects = await hearer.scan(_Order, "SELECT number FROM effect ORDER BY number")
    answers = await ServiceOutbox(hearer, HEARER).after(0, **EVERYTHING)
    events = await outbox.after(0, **EVERYTHING)
    head = (await outbox.state()).head
    logged = log.read(STREAM, 0, 10**6, 10**9)
    cursor = await ServiceInbox(hearer, WORDS, (LISTENER,)).cursor(STREAM)
    last = ORIGIN
    for event in events:
        if event.previous != last or not intact(event):
            return f"corrupt: the chain breaks at event {event.seq}"
        last = event.link
    checks = (
        (len(orders) >= told.get("order", 0), "lost: an acknowledged order"),
        (len(orders) == len(events), "I1: orders and events differ"),
        (last == head, "I2: the outbox does not end at its head"),
        (len(logged) >= told.get("log", 0), "lost: an acknowledged event of the log"),
        (logged == tuple(events[: len(logged)]), "I3: the log is no prefix of the outbox"),
        (cursor.link.seq >= told.get("applied again", 0), "lost: an event applied again"),
        (len(answers) >= told.get("answer", 0), "lost: an event that answers"),
        (len(answers) == len(effects) // ANSWERED_EACH, "I1: effects and what they told differ"),
        (cursor.link.seq == len(effects), "I6: cursor and effects are apart"),
        (len(effects) <= len(logged), "I4: applied and not in the log"),
    )
    return next((wrong for holds, wrong in checks if not holds), "")


def copy_locks(source: Path, target: Path) -> None:
    """The lock files carry the mark that a database was made here; SQLite does not write them."""
    for lock in source.rglob("*lock*"):
        place = target / lock.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(lock, place)
