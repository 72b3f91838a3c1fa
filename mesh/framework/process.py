"""One service as a process: open the wires, serve, drain on SIGTERM.

It needs nothing but its environment and runs by hand too. What it refuses: to serve before its
schema is right, and to go on once its database is not to be trusted.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import uvloop

from mesh import bus, clock, codec, database, notify, telemetry, tokens
from mesh.client import Client
from mesh.errors import DatabaseBroken, InvalidInput, MeshError, Unavailable
from mesh.framework import ending, idempotency, identity
from mesh.framework.app import App
from mesh.framework.attempt import AttemptMark
from mesh.framework.condition import Condition
from mesh.framework.context import Context, Wires
from mesh.framework.controls import Controls
from mesh.framework.deferred import DeferredWork
from mesh.framework.drain import LINGER_MAX_S, Server
from mesh.framework.erasure import Erasure
from mesh.framework.figures import Counted
from mesh.framework.inbox import ServiceInbox
from mesh.framework.metrics import Metrics
from mesh.framework.outbox import PACE_S, TRIM_ROWS_MAX, ServiceOutbox, Told, found_epoch
from mesh.framework.pages import Pages
from mesh.framework.service import Listener, Service, check
from mesh.framework.settings import Settings, settings
from mesh.framework.tables import find_service
from mesh.framework.traffic import Traffic
from mesh.framework.transaction import Tx, Vocabulary
from mesh.tracing import variables

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from mesh.bus import Bus
    from mesh.database import Database, Transaction
    from mesh.framework.identity import Identity

DRAIN_S = 8.0
"""For requests in flight after SIGTERM; the supervisor kills at 10 s by default."""

SHUTDOWN_S = 1.5
"""For everything after the last request: deferred work, the bus, the database."""

COMPUTE_THREADS = 2
"""CPU work at a time: as many as argon2 may use without starving the event loop."""

SWITCH_S = 0.0005
"""The interpreter's default lets a thread compute for 5 ms while another waits. A busy event loop
would hold up each commit for that long before the disk hears of it, and once more afterwards."""

YOUNG_MAX = 10_000
"""Objects made and not yet gone until the collector looks for cycles. A service makes hardly any, and with
the interpreter's 700 every few requests under way have it look at them all."""

SWEEP_S = 60.0

TRIM_PAUSE_S = 0.2
"""Between two pieces of a long outbox, for the writer's other work."""

BACKLOG = 256
log = telemetry.logger("framework.process")


def run(module: str) -> NoReturn:
    """Serve the service that `module` names until SIGTERM; ends the process."""
    telemetry.setup_logging(os.environ.get("MESH_SERVICE", module))
    sys.setswitchinterval(SWITCH_S)
    try:
        chosen = settings(os.environ)
        _record(chosen)
        service, schema = find_service(module, chosen.service)
        check(service)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            fatal = runner.run(_Process(service, schema, chosen).serve())
    except MeshError as error:
        sys.exit(ending.unstarted(error, Path(os.environ.get("MESH_DATA_DIR", "."))))
    finally:
        telemetry.recorder.close()
    sys.exit(0 if fatal is None else ending.broken_off(fatal, chosen.data_dir))


class _Process:
    """The wires of one running service."""

    def __init__(self, service: Service, schema: Path, chosen: Settings) -> None:
        self._service = service
        self._schema = schema
        self._settings = chosen
        self._erasure = Erasure(service, chosen.data_dir)
        self._stop = asyncio.Event()
        self._fatal: BaseException | None = None

    async def serve(self) -> BaseException | None:
        """From the first file opened to the last one closed; returns what ended it, if anything."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        chosen = self._settings
        who = _identity(chosen)
        store = await database.connect(
            chosen.database_url, chosen.data_dir, chosen.service, patience=chosen.patience
        )
        try:
            await self._prepare(store)
            client = Client(chosen.peers, who.token, patience=chosen.patience)
            who.attach(client, store)
            wire = bus.connect(
                chosen.bus_url, name=chosen.service, token=lambda: who.token(bus.AUDIENCE)
            )
            pool = ThreadPoolExecutor(COMPUTE_THREADS, thread_name_prefix="compute")
            try:
                await self._run(who, store, client, wire, pool)
            finally:
                await wire.close()
                await client.close()
                pool.shutdown(wait=False, cancel_futures=True)
        finally:
            await store.close()
        return self._fatal

    async def _prepare(self, store: Database) -> None:
        """The schema, the seed and the first epoch: all there before anybody is answered."""
        own = Path(__file__).parent / "schema"
        migrations = [
            *database.found_in(own, "mesh"),
            *database.found_in(self._schema, self._service.name),
        ]
        async with notify.getting_on():  # all that was ever sold may have to be rewritten
            await store.migrate(migrations)
        await store.write(found_epoch)
        words = self._vocabulary()
        await self._plant(store, words)
        await self._erasure.again(store, words)

    async def _plant(self, store: Database, words: Vocabulary) -> None:
        seed = self._service.seed
        if seed is None or self._settings.seed_file is None:
            return
        content = codec.read_json(self._settings.seed_file.read_bytes())
        try:
            wanted = codec.convert(content, seed.takes)
        except InvalidInput as error:
            raise InvalidInput(
                f"seed of {self._service.name}: {error.detail} at {error.pointer or '/'}"
            ) from None
        await store.write_aside(_plant, words, seed.plant, wanted)

    def _vocabulary(self, left: Callable[[int], None] = lambda _: None) -> Vocabulary:
        return Vocabulary(
            tells={row.data: row for row in self._service.tells},
            deferred=frozenset(row.name for row in self._service.deferred),
            left=left,
            erase=self._erasure.run,
        )

    async def _run(
        self, who: Identity, store: Database, client: Client, wire: Bus, pool: ThreadPoolExecutor
    ) -> None:
        chosen = self._settings
        work: DeferredWork
        outbox = ServiceOutbox(store, chosen.service)

        def told(event: Told) -> None:
            outbox.told(event)
            wire.wake()

        words = replace(
            self._vocabulary(lambda due_ms: work.left(due_ms)),  # noqa: PLW0108  bound below
            acked=lambda: outbox.acked_seq,
            told=told,
        )
        asks = frozenset(self._service.asks)
        wires = Wires(
            chosen.service, chosen.project, store, client, asks, words, pool, COMPUTE_THREADS
        )
        work = DeferredWork(
            store,
            self._service.deferred,
            lambda trace, cause, deadline_s: Context(
                wires,
                identity.Caller("service", chosen.service),
                trace,
                cause,
                deadline_s,
                outermost=False,  # deferred work comes again by itself, with a backoff of its own
            ),
            client.room,
        )
        listeners = self._erasure.listeners(self._service.listeners)
        if who.trusts_issuer:
            listeners.append(Listener("auth.keys_changed", _keys_listener(who), identity.KeySet))
            ended = Listener("auth.session_revoked", _sessions_listener(who), identity.Revoked)
            listeners.append(ended)
        inbox = ServiceInbox(store, words, listeners, mark=_mark(chosen), broken=self._fail)
        await inbox.prepare(chosen.last_exit)
        metrics = Metrics()
        pages = Pages(self._service, who, store, outbox, inbox, work, wire, metrics)
        app = App(self._service, wires, who, metrics, pages.table(), self._fail, chosen.patience)
        pages.app = app
        controls = Controls(app, store, chosen.data_dir / f"{chosen.service}.backup")
        app.controls = {**pages.controls(), **controls.table()}
        wire.disturb(app.faults.feed)
        _gauges(metrics, store, inbox, work, app)
        await wire.start()
        wire.relay(outbox, pace_s=PACE_S)
        server = Server(app)
        pages.traffic = Traffic(self._service, client, app.gate.admission, server.everybody, work)
        metrics.also(pages.traffic)
        server.listen(_listener(chosen))
        try:
            beside = [
                work.run(),
                _sweep(store, outbox),
            ]
            if inbox.streams:  # nothing is handed to listeners before everything else stands
                wire.subscribe(inbox.streams, app.faults.between(inbox))
            counted = Counted(store, client, wire, inbox, outbox, metrics)
            condition = Condition(chosen.service, store, wire, inbox)
            beside.append(_beat(counted, condition))
            await self._until_stopped(who, store, pages, beside)
        finally:
            notify.stopping()
            await server.refuse()
            if self._fatal is None:
                await server.linger()
            await server.end(DRAIN_S - LINGER_MAX_S)
            await controls.close()

    async def _until_stopped(
        self,
        who: Identity,
        store: Database,
        pages: Pages,
        beside: list[Coroutine[None, None, None]],
    ) -> None:
        """Serve, with the loops that go beside it, until asked to stop or something breaks."""
        gc.collect()
        gc.freeze()  # what stands now stands to the end
        gc.set_threshold(YOUNG_MAX)
        notify.beat()  # the watchdog counts from here
        notify.ready()
        log.info("ready", extra=telemetry.facts(service=self._service.name))
        pages.ready = True
        async with asyncio.TaskGroup() as group:
            tasks = [
                *(group.create_task(each) for each in beside),
                group.create_task(self._check(store)),
            ]
            if who.trusts_issuer:
                tasks.append(group.create_task(who.get_first_keys()))
            await self._stop.wait()
            pages.ready = False
            for task in tasks:
                task.cancel()

    async def _check(self, store: Database) -> None:
        """After a crash, look the database over while serving."""
        try:
            await store.check_after_crash()
        except DatabaseBroken as error:
            self._fail(error)
        except Unavailable as error:
            log.warning("the database was not looked over", extra=telemetry.facts(why=str(error)))

    def _fail(self, error: BaseException) -> None:
        """The database cannot be trusted any more: stop, so that it is opened afresh."""
        self._fatal = self._fatal or error
        self._stop.set()


def _record(chosen: Settings) -> None:
    """Begin to record spans as the OTEL_… variables say. What they have wrong is said, and passes."""
    wanted = variables.sampling(os.environ)
    for complaint in wanted.complaints:
        log.warning(complaint)
    wanted.choose()
    if wanted.recording:
        try:
            telemetry.recorder.start(chosen.data_dir)
        except OSError as error:
            log.warning("no spans are recorded", extra=telemetry.facts(why=str(error)))


def _identity(chosen: Settings) -> Identity:
    try:
        content = chosen.identity_file.read_bytes()
    except OSError as error:
        raise InvalidInput(f"MESH_IDENTITY_FILE: {error}") from None
    return identity.Identity(chosen.service, codec.decode(content, tokens.IdentityFile))


def _mark(chosen: Settings) -> AttemptMark:
    path = chosen.data_dir / f"{chosen.service}.attempt"
    try:
        return AttemptMark(path)
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}") from None


def _keys_listener(who: Identity) -> Callable[[Tx, identity.KeySet], None]:
    def on_keys_changed(tx: Tx, data: identity.KeySet) -> None:
        """Keep the key set that auth told of."""
        identity.keep_keys(tx, data)
        tx.after_commit(who.load_keys)

    return on_keys_changed


def _sessions_listener(who: Identity) -> Callable[[Tx, identity.Revoked], None]:
    def on_session_revoked(tx: Tx, data: identity.Revoked) -> None:
        """Take no access token of that session any more."""
        identity.keep_revoked(tx, data)
        tx.after_commit(lambda: who.revoke(data))

    return on_session_revoked


def _plant(
    inner: Transaction, words: Vocabulary, plant: Callable[[Tx, object], None], seed: object
) -> None:
    """Apply the seed, once in the life of this database."""
    first = inner.execute(
        "INSERT INTO seeded (one, at_ms) VALUES (1, :now) ON CONFLICT DO NOTHING",
        now=clock.now_ms(),
    )
    if first:
        untold = codec.replace(telemetry.new_trace(), sampled=False)  # nobody asked for it
        plant(Tx(inner, words, untold, "seed"), seed)


def _listener(chosen: Settings) -> socket.socket:
    if chosen.listen_fd is not None:
        return socket.socket(fileno=chosen.listen_fd)
    family = socket.AF_INET6 if ":" in chosen.host else socket.AF_INET
    listener = socket.create_server((chosen.host, chosen.port), family=family, backlog=BACKLOG)
    listener.setblocking(False)  # noqa: FBT003  the standard library's signature
    return listener


async def _beat(counted: Counted, condition: Condition) -> None:
    """All that is told once a second, in one piece: each wake-up costs more than what it does."""
    while True:
        notify.beat(counted.second())
        condition.look()
        await asyncio.sleep(notify.BEAT_S)


async def _sweep(store: Database, outbox: ServiceOutbox) -> None:
    """Let go of keys and events that are old enough; at once again while there are many events."""
    wait_s = SWEEP_S
    while True:
        await asyncio.sleep(wait_s)
        wait_s = SWEEP_S
        try:
            await idempotency.sweep(store)
            if await outbox.trim() == TRIM_ROWS_MAX:
                wait_s = TRIM_PAUSE_S
        except MeshError as error:
            log.warning("old rows could not be swept", extra=telemetry.facts(error=str(error)))


def _gauges(
    metrics: Metrics, store: Database, inbox: ServiceInbox, work: DeferredWork, app: App
) -> None:
    metrics.gauge("in_flight", "Requests being answered", lambda: app.in_flight)
    metrics.gauge("commits", "Durable transactions since the start", lambda: store.commits)
    metrics.gauge("events_applied", "Events applied since the start", lambda: inbox.events_applied)
    metrics.gauge("deferred_running", "Deferred work under way", lambda: work.running)
    metrics.gauge(
        "spans_dropped", "Spans that could not be kept", lambda: telemetry.recorder.dropped
    )
    metrics.gauge("log_lines_dropped", "Lines that could not be written", telemetry.dropped)
