"""Real services in the test's own process: real actions, real database files, no HTTP.

A neighbour is asked through its table: permission, limits, idempotency and the way errors travel
are the framework's own. What is left out is the socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from mesh import clock, codec, database, telemetry
from mesh.bus import Trace
from mesh.client import problem_error
from mesh.errors import DeadlineExceeded, MeshError, ServiceUnavailable
from mesh.framework import Context, Tx, conditional, idempotency, identity
from mesh.framework.context import Wires
from mesh.framework.erasure import Erasure
from mesh.framework.outbox import found_epoch
from mesh.framework.problems import problem
from mesh.framework.transaction import Vocabulary

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mesh.client import Call, Envelope
    from mesh.database import Database
    from mesh.framework import Caller, Service
    from mesh.telemetry import TraceContext

THREADS = 2
PROJECT = "shop"
PATIENCE = 100
"""Nothing here is late because the machine stands still."""

FRAMEWORK = Path(identity.__file__).parent / "schema"


NOWHERE = Trace()


class Told:
    """One row of the outbox."""

    def __init__(self, kind: str, body: dict[str, object], trace: Trace = NOWHERE) -> None:
        self.type = kind
        self.data = body
        self.trace = trace


class Room:
    """One service with its database; `ask` is what its HTTP door does."""

    def __init__(
        self,
        service: Service,
        store: Database,
        directory: Path,
        pool: ThreadPoolExecutor,
        *neighbours: Room,
    ) -> None:
        self.service = service
        self.database = store
        self.file = directory / f"{service.name}.db"
        self.asked: list[str] = []
        self.away = False
        self.loses_answers = False
        self._running = idempotency.Running()
        self._neighbours = {room.service.name: room for room in neighbours}
        self.erasure = Erasure(service, directory)
        words = Vocabulary(
            tells={row.data: row for row in service.tells},
            deferred=frozenset(row.name for row in service.deferred),
            left=lambda _: None,
            erase=self.erasure.run,
        )
        asks = frozenset(service.asks)
        self.wires = Wires(service.name, PROJECT, store, _Client(self), asks, words, pool, THREADS)

    async def ask(
        self,
        name: str,
        members: object,
        *,
        caller: Caller = identity.ANONYMOUS,
        key: str | None = None,
        match: str | None = None,
        source: str = "127.0.0.1",
        trace: TraceContext | None = None,
    ) -> object:
        """Answer one request. `members` is a struct or a dict, as JSON would carry it."""
        row = next(row for row in self.service.operations if row.name == name)
        identity.admit(caller, row.allow)
        self.asked.append(name)
        takes = codec.convert(codec.plain(members), row.takes)
        trace = trace or telemetry.new_trace()
        ctx = Context(self.wires, caller, trace, "req_test", clock.monotonic_s() + 60)
        ctx.source = source
        if row.match:
            ctx.match = conditional.required_match(match)
        if key is None or row.key == "none":
            return await row.action(ctx, takes)
        keyed = idempotency.keyed(caller, row.name, key, takes)
        mark = self._running.enter(keyed)
        try:
            found = idempotency.find(ctx.read, keyed)
            if found is not None:
                return codec.decode(found.body, row.gives)
            ctx.keyed = keyed
            return await row.action(ctx, takes)
        finally:
            self._running.leave(mark)

    async def plant(self, members: object) -> None:
        """Apply a seed, as the process does."""
        seed = self.service.seed
        assert seed is not None
        wanted = codec.convert(codec.plain(members), seed.takes)
        await self.transact(seed.plant, wanted)

    async def transact(self, fn, *args):
        """Run one of the service's own transaction functions."""
        vocabulary = self.wires.vocabulary

        def run(inner):
            return fn(Tx(inner, vocabulary, telemetry.new_trace(), "test"), *args)

        return await self.database.write(run)

    async def work(self) -> list[str]:
        """Do everything that is deferred and due, as long as there is any; what was done."""
        done = []
        while rows := self.database.read.all(
            _Due,
            "SELECT action, key, args, generation FROM deferred WHERE due_ms <= :now ORDER BY due_ms LIMIT 10",
            now=clock.now_ms(),
        ):
            for due in rows:
                row = next(row for row in self.service.deferred if row.name == due.action)
                who = identity.Caller("service", self.service.name)
                until_s = clock.monotonic_s() + 60
                ctx = Context(self.wires, who, telemetry.new_trace(), "evt_test", until_s)
                await row.action(ctx, codec.decode(due.args, row.takes))
                await self.transact(_done, due)
                done.append(due.action)
        return done

    async def hear(self, *told: Told) -> None:
        """Apply events of another room, each to the listener that the table names, if any."""
        for one in told:
            for row in self.erasure.listeners(self.service.listeners):
                if row.event == one.type:
                    await self.transact(row.react, codec.convert(one.data, row.reads))

    def told(self, kind: str = "") -> list[Told]:
        """What it has told, in order."""
        rows = self.database.read.all(
            _Row, "SELECT type, body, trace FROM outbox WHERE seq > 0 ORDER BY seq LIMIT 1000"
        )
        return [
            Told(
                row.type,
                codec.decode(row.body, dict[str, object]),
                codec.decode(row.trace, Trace),
            )
            for row in rows
            if row.type.startswith(kind)
        ]

    def offenders(self) -> dict[str, list[str]]:
        """Every invariant of the table that does not hold."""
        return offenders(self.service, self.file)


def offenders(service: Service, file: Path) -> dict[str, list[str]]:
    """Every invariant of a service that does not hold, asked without a bound as of a copy."""
    found: dict[str, list[str]] = {}
    with contextlib.closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as copy:
        for row in service.invariants:
            found.setdefault(row.name, []).extend(one for one, *_ in copy.execute(row.offenders))
    return {name: rows for name, rows in found.items() if rows}


class _Due(Struct):
    action: str
    key: str
    args: bytes
    generation: int


def _done(tx: Tx, due: _Due) -> None:
    """As the framework has it: what was deferred again meanwhile stays owed."""
    tx.execute(
        "DELETE FROM deferred WHERE action = :action AND key = :key AND generation = :generation",
        action=due.action,
        key=due.key,
        generation=due.generation,
    )


class _Row(Struct):
    type: str
    body: bytes
    trace: bytes


class _Client:
    """Asks neighbours; their refusals travel as the problem documents of the real door."""

    def __init__(self, room: Room) -> None:
        self._room = room

    async def ask(self, call: Call, request: object, envelope: Envelope) -> object:
        asker, neighbour = self._room, self._room._neighbours[call.service]
        if neighbour.away:
            raise ServiceUnavailable(f"{call.service} cannot be reached")
        method, _, path = call.route.partition(" ")
        name = next(
            row.name
            for row in neighbour.service.operations
            if (row.method, row.path) == (method, path)
        )
        caller = identity.Caller("service", asker.service.name)
        try:
            answer = await neighbour.ask(name, request, caller=caller, key=envelope.key)
        except MeshError as error:
            response = problem(error, envelope.trace.trace_id, path)
            raise problem_error(response.status, response.body, call.service) from None
        if neighbour.loses_answers:
            raise DeadlineExceeded(f"{call.service} did not answer in time")
        return codec.decode(codec.encode(answer), call.gives)


@contextlib.asynccontextmanager
async def room(service: Service, directory: Path, *neighbours: Room) -> AsyncIterator[Room]:
    """Open a service's database with its whole schema."""
    import mesh.services

    store = await database.connect(
        "sqlite://", directory / service.name, service.name, patience=PATIENCE
    )
    pool = ThreadPoolExecutor(THREADS)
    try:
        own = Path(mesh.services.__file__).parent / service.name / "schema"
        await store.migrate(
            [*database.found_in(FRAMEWORK, "mesh"), *database.found_in(own, service.name)]
        )
        await store.write(found_epoch)
        yield Room(service, store, directory / service.name, pool, *neighbours)
    finally:
        await store.close()
        pool.shutdown()


async def outcomes(*asked) -> list[object]:
    """What each of several requests made at once came to: its answer, or its error's code."""
    found = await asyncio.gather(*asked, return_exceptions=True)
    for one in found:
        if isinstance(one, BaseException) and not isinstance(one, MeshError):
            raise one
    return [one.code if isinstance(one, MeshError) else one for one in found]


class Clock:
    """Wall time that a test moves."""

    def __init__(self, monkeypatch) -> None:
        self.now_ms = clock.now_ms()
        monkeypatch.setattr(clock, "now_ms", lambda: self.now_ms)

    def forward(self, seconds: float) -> None:
        self.now_ms += int(seconds * 1000)
