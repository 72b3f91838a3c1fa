"""The broker on real sockets: who may reach it, what it refuses, and how it ends."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import uvloop
import zmq
from msgspec import structs

from mesh import bus
from mesh.buses.contract import ORIGIN, Position
from mesh.buses.zmq.broker import Broker
from mesh.buses.zmq.client import ZmqBus
from mesh.buses.zmq.endpoints import FEED, FETCH, INGEST
from mesh.buses.zmq.log import Log
from mesh.buses.zmq.protocol import frames, timing
from mesh.buses.zmq.wire import BEAT_TOPIC, pack, unpack
from mesh.errors import InvalidInput, LogBroken
from tests.buses.histories import FIRST, chain
from tests.buses.support import ROOT, WAIT_S, FileInbox, FileOutbox, until
from tests.support.machine import Machine

EVENTS = chain(10)


@pytest.fixture
async def broker(tmp_path):
    broker = Broker(Log(tmp_path / "bus"), tmp_path / "run")
    broker.start()
    yield broker
    await broker.close()


@pytest.fixture
def run(tmp_path):
    return tmp_path / "run"


@pytest.fixture
def peer(run):
    """A raw DEALER at one of the endpoints."""
    context, dealers = zmq.Context(), []

    def connect(name):
        dealer = context.socket(zmq.DEALER)
        dealers.append(dealer)
        dealer.connect(f"ipc://{run / name}")
        return dealer

    yield connect
    for dealer in dealers:
        dealer.close(linger=0)
    context.term()


async def ask(dealer, frame):
    """Send one frame and wait for one."""
    dealer.send_multipart(pack(frame))
    return await hear(dealer)


async def hear(dealer):
    await until(lambda: dealer.poll(0) == zmq.POLLIN)
    return unpack(dealer.recv_multipart(zmq.NOBLOCK))


async def connected_to(run, name):
    connection = ZmqBus(run, name)
    await connection.start()
    return connection


async def test_conversation_runs_as_the_frame_table_says(broker, peer):
    ingest, fetch = peer(INGEST), peer(FETCH)
    welcome = await ask(ingest, frames.Hello(1, 1, "order", (FIRST,), EVENTS[-1].link, 1))
    assert (welcome.session, welcome.req, welcome.head) == (1, 1, ORIGIN)
    ack = await ask(ingest, frames.Put(1, EVENTS))
    assert ack == frames.Ack(1, Position(1, 10))
    assert await ask(ingest, frames.Ping(1)) == frames.Pong(1)
    attached = await ask(fetch, frames.Attach(2, "product", "order", ORIGIN, 0))
    assert attached == frames.Attached(2, (FIRST,), EVENTS[-1].link, 1)
    batch = await ask(fetch, frames.Get(2, 1, "order", Position(1, 7), 100, 10**6))
    assert batch == frames.Batch(2, 1, EVENTS[-1].link, EVENTS[7:])


async def test_unknown_conversation_must_greet(broker, peer):
    ingest, fetch = peer(INGEST), peer(FETCH)
    assert (await ask(ingest, frames.Put(9, EVENTS))).reason == "EPOCH"
    assert (await ask(ingest, frames.Ping(9))).reason == "EPOCH"
    for stream in ("order", "*"):
        get = frames.Get(9, 1, stream, Position(0, 0), 1, 1)
        assert await ask(fetch, get) == frames.Reset(9, "PROTO", 1)


@pytest.mark.parametrize("name", ["", "Order", "order audit", "../order", "o" * 32, "order\n"])
async def test_stream_of_a_wrong_name_is_not_made(broker, peer, name):
    ingest, fetch = peer(INGEST), peer(FETCH)
    ingest.send_multipart(pack(frames.Hello(1, 1, name, (FIRST,), ORIGIN, 1)))
    fetch.send_multipart(pack(frames.Attach(1, "product", name, ORIGIN, 0)))
    await until(lambda: broker.malformed == 2)


async def test_put_that_was_harmed_is_asked_for_again(broker, peer):
    ingest = peer(INGEST)
    await ask(ingest, frames.Hello(1, 1, "order", (FIRST,), EVENTS[-1].link, 1))
    packed = pack(frames.Put(1, EVENTS))
    harmed = [packed[0], packed[1][:-1] + bytes([packed[1][-1] ^ 1])]
    ingest.send_multipart(harmed)
    assert await hear(ingest) == frames.Nak(1, "CRC", ORIGIN)
    assert await ask(ingest, frames.Put(1, EVENTS)) == frames.Ack(1, Position(1, 10))


async def test_put_that_can_never_be_read_is_refused_for_good(broker, peer):
    ingest = peer(INGEST)
    await ask(ingest, frames.Hello(1, 1, "order", (FIRST,), EVENTS[-1].link, 1))
    large = structs.replace(EVENTS[0], key="k" * 5000)
    assert await ask(ingest, frames.Put(1, (large,))) == frames.Nak(1, "TOOBIG", ORIGIN)


async def test_harmed_put_of_nobody_known_is_dropped(broker, peer):
    ingest = peer(INGEST)
    packed = pack(frames.Put(9, EVENTS))
    ingest.send_multipart([packed[0], b""])
    await until(lambda: broker.malformed == 1)
    assert await ask(ingest, frames.Ping(9)) == frames.Nak(9, "EPOCH", ORIGIN)


async def test_garbage_changes_nothing_and_stops_nobody(broker, peer, run, tmp_path):
    outbox = FileOutbox(tmp_path / "order.db", "order")
    outbox.tell(*[b"x"] * 50)
    teller = await connected_to(run, "order")
    teller.relay(outbox)
    await until(lambda: outbox.acked.seq == 50)
    chance = random.Random(7)
    dealers = [peer(INGEST), peer(FETCH)]
    real = [
        pack(frames.Hello(1, 1, "order", (FIRST,), ORIGIN, 1)),
        pack(frames.Put(1, EVENTS)),
        pack(frames.Get(1, 1, "order", Position(0, 0), 10, 1000)),
        pack(frames.Attach(1, "product", "order", ORIGIN, 0)),
    ]
    for _ in range(2000):
        parts = [bytearray(part) for part in chance.choice(real)]
        for _ in range(chance.randrange(1, 5)):
            part = chance.choice(parts)
            if part:
                part[chance.randrange(len(part))] ^= chance.randrange(1, 256)
        noise = [chance.randbytes(chance.randrange(200)) for _ in range(chance.randrange(4))]
        for dealer in dealers:
            dealer.send_multipart(parts if chance.random() < 0.7 else [b"", *noise])
        await asyncio.sleep(0)
    await until(lambda: broker.malformed >= 4000)
    (head,) = await teller.heads(timeout_s=30)
    assert head.head == outbox.head()
    await teller.close()


async def test_garbage_on_raw_connections_stops_nobody(broker, run):
    for name in (INGEST, FEED, FETCH):
        for _ in range(20):
            with socket.socket(socket.AF_UNIX) as raw:
                raw.connect(str(run / name))
                raw.sendall(os.urandom(500))
    reader = await connected_to(run, "cli")
    assert await reader.heads(timeout_s=30) == []
    await reader.close()


async def test_frame_beyond_the_bound_is_dropped_with_its_connection(broker, peer):
    large = peer(INGEST)
    large.send_multipart([b"x" * (1024 * 1024 + 1)])
    other = peer(INGEST)
    assert (await ask(other, frames.Ping(1))).reason == "EPOCH"
    assert broker.malformed == 0


async def test_peer_that_does_not_read_costs_nothing(broker, peer, run, tmp_path):
    """Answers to it are dropped; what is asked by others is answered."""
    fetch = peer(FETCH)
    await ask(fetch, frames.Attach(2, "product", "order", ORIGIN, 0))
    get = pack(frames.Get(2, 1, "order", Position(0, 0), 10, 1000))
    for _ in range(20_000):
        try:
            fetch.send_multipart(get, zmq.NOBLOCK)
        except zmq.Again:
            await asyncio.sleep(0.001)
    reader = await connected_to(run, "cli")
    assert await reader.heads(timeout_s=30) == []
    await reader.close()


async def test_cursor_of_a_consumer_is_recorded_within_two_seconds(broker, run, tmp_path):
    outbox = FileOutbox(tmp_path / "order.db", "order")
    inbox = FileInbox(tmp_path / "product.db")
    outbox.tell(b"1", b"2", b"3")
    teller, listener = await connected_to(run, "order"), await connected_to(run, "product")
    teller.relay(outbox)
    listener.subscribe(["order"], inbox)
    reader = sqlite3.connect(tmp_path / "bus" / "bus.db")

    def recorded():
        return reader.execute("SELECT stream, name, seq, known_epoch FROM consumer").fetchall()

    await until(lambda: recorded() == [("order", "product", 3, 1)])
    reader.close()
    await teller.close()
    await listener.close()


async def test_new_subscriber_hears_a_heartbeat_at_once(broker, run):
    heard = []
    for _ in range(4):
        start = asyncio.get_running_loop().time()
        connection = await connected_to(run, "cli")
        while connection.state != "live":
            await asyncio.sleep(0.002)
        heard.append(asyncio.get_running_loop().time() - start)
        await connection.close()
    assert min(heard) < 0.1


async def test_broken_log_ends_the_broker(broker, peer, monkeypatch):
    def fail(*_):
        raise LogBroken("the disk is gone")

    monkeypatch.setattr(broker._log, "commit", fail)
    ingest = peer(INGEST)
    ingest.send_multipart(pack(frames.Hello(1, 1, "order", (FIRST,), ORIGIN, 1)))
    with pytest.raises(LogBroken):
        await asyncio.wait_for(broker.broken, WAIT_S)


async def test_events_arrive_by_asking_when_the_feed_is_dead(broker, run, tmp_path):
    outbox = FileOutbox(tmp_path / "order.db", "order")
    inbox = FileInbox(tmp_path / "product.db")
    teller, listener = await connected_to(run, "order"), await connected_to(run, "product")
    teller.relay(outbox)
    listener.subscribe(["order"], inbox)
    await until(lambda: teller.state == listener.state == "live")
    listener._feed.pause()
    with Machine(tmp_path) as machine:
        start = time.monotonic()
        outbox.tell(b"1", b"2", b"3")
        teller.wake()
        await inbox.has("order", 3)
        assert machine.since_s(start) < timing.POLL_S + 1.5
    await listener.close()
    await teller.close()


async def test_word_of_news_that_is_lost_after_a_calm_is_made_good_at_once(
    broker, run, tmp_path, monkeypatch
):
    outbox = FileOutbox(tmp_path / "order.db", "order")
    inbox = FileInbox(tmp_path / "product.db")
    teller, listener = await connected_to(run, "order"), await connected_to(run, "product")
    teller.relay(outbox)
    listener.subscribe(["order"], inbox)
    broker._heart._news_at -= timing.QUIET_S
    await until(lambda: broker._heart.calm and teller._calm and listener._calm)
    ticks = []
    monkeypatch.setattr(listener, "_tell", ticks.append)
    await asyncio.sleep(2.2)
    monkeypatch.undo()
    assert 1 <= len(ticks) <= 3, "with heartbeats, once a second"
    listener._way = SimpleNamespace(through=lambda f: [f] if f[0] == BEAT_TOPIC else [])
    with Machine(tmp_path) as machine:
        start = time.monotonic()
        outbox.tell(b"1", b"2", b"3")
        teller.wake()
        await inbox.has("order", 3)
        assert machine.since_s(start) < timing.CALM_BEAT_S / 2 + timing.BEAT_S
    assert not broker._heart.calm
    await listener.close()
    await teller.close()


async def test_full_log_holds_producers_back_and_goes_on_when_there_is_space(broker, run, tmp_path):
    """SQLite refuses to grow the file beyond a number of pages, as it would on a full disk."""
    outbox = FileOutbox(tmp_path / "order.db", "order")
    teller = await connected_to(run, "order")
    teller.relay(outbox)
    outbox.tell(*[b"x" * 1000] * 20)
    teller.wake()
    await until(lambda: outbox.acked.seq == 20)
    writer = broker._log._writer
    (pages,) = writer.execute("PRAGMA page_count").fetchone()
    writer.execute(f"PRAGMA max_page_count = {pages}")
    outbox.tell(*[b"x" * 1000] * 500)
    teller.wake()
    await until(lambda: broker._streams["order"].full)
    (head,) = await teller.heads(timeout_s=30)
    seen = [each async for batch in teller.arrivals(0, follow=False) for each in batch]
    assert head.head.seq == len(seen) < 520
    writer.execute("PRAGMA max_page_count = 1000000")
    await until(lambda: outbox.acked.seq == 520)
    assert not broker._streams["order"].full
    await teller.close()


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_bus_works_on_either_event_loop(tmp_path, factory):
    async def story():
        broker = Broker(Log(tmp_path / "bus"), tmp_path / "run")
        broker.start()
        outbox = FileOutbox(tmp_path / "order.db", "order")
        inbox = FileInbox(tmp_path / "product.db")
        teller = await connected_to(tmp_path / "run", "order")
        listener = await connected_to(tmp_path / "run", "product")
        teller.relay(outbox)
        listener.subscribe(["order"], inbox)
        for number in range(200):
            outbox.tell(b"%d" % number)
            teller.wake()
        await inbox.has("order", 200)
        await listener.close()
        await teller.close()
        await broker.close()

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(story())


async def test_no_thread_and_no_context_before_start(run):
    tasks = Path("/proc/self/task")
    before = threading.active_count(), len(list(tasks.iterdir()))
    connection = ZmqBus(run, "order")
    connection.wake()
    assert (threading.active_count(), len(list(tasks.iterdir()))) == before
    await connection.close()


# As a program


def serve(directory, sockets):
    wanted = bus.program("zmq://", directory=directory, sockets=sockets)
    code = f"from mesh.bus import serve; serve(*{wanted.args!r})"
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=WAIT_S,
        check=False,
    )  # fmt: skip


def spoil_mode(run):
    run.mkdir(mode=0o755)


def spoil_link(run):
    (run.parent / "elsewhere").mkdir(mode=0o700)
    run.symlink_to(run.parent / "elsewhere")


def spoil_file(run):
    run.write_text("")


def spoil_owner(run):
    if os.geteuid():
        pytest.skip("only root can give a directory away")
    run.mkdir(mode=0o700)
    os.chown(run, 12345, 12345)


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (spoil_mode, "mode 0755"),
        (spoil_link, "symbolic link"),
        (spoil_file, "no directory for sockets"),
        (spoil_owner, "belongs to uid 12345"),
    ],
)
def test_broker_exits_78_when_others_could_reach_its_sockets(tmp_path, run, spoil, words):
    spoil(run)
    done = serve(tmp_path / "bus", run)
    assert done.returncode == 78
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.e2e
def test_broker_exits_78_when_the_path_of_its_sockets_is_too_long(tmp_path):
    done = serve(tmp_path / "bus", tmp_path / ("x" * 100))
    assert done.returncode == 78
    assert "107" in done.stderr


@pytest.mark.e2e
async def test_second_broker_is_refused_and_harms_nobody(broker, run, tmp_path):
    done = await asyncio.to_thread(serve, tmp_path / "bus", run)
    assert done.returncode == 1
    assert "another bus holds" in done.stderr
    reader = await connected_to(run, "cli")
    assert await reader.heads(timeout_s=30) == []
    await reader.close()


@pytest.mark.e2e
def test_broker_tells_its_supervisor_that_it_is_ready_and_alive(tmp_path, run):
    wanted = bus.program("zmq://", directory=tmp_path / "bus", sockets=run)
    read, write = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", f"from mesh.bus import serve; serve(*{wanted.args!r})"],
        cwd=ROOT,
        env={**os.environ, "MESH_NOTIFY_FD": str(write)},
        pass_fds=(write,),
    )
    os.close(write)
    with os.fdopen(read) as words:
        heard = [next(words).strip() for _ in range(3)]
        assert sorted(set(heard)) == ["READY=1", "WATCHDOG=1"]
        process.send_signal(signal.SIGTERM)
        assert "STOPPING=1\n" in list(words)
    assert process.wait(WAIT_S) == 0


def test_client_is_refused_when_its_url_names_no_place():
    for url in ("zmq://", "zmq://host:1234/run", f"zmq:///{'x' * 120}"):
        with pytest.raises(InvalidInput):
            bus.connect(url, name="order")


def test_program_is_found_by_its_entry_and_its_url_by_clients(tmp_path):
    wanted = bus.program("zmq://", directory=tmp_path / "bus", sockets=tmp_path / "a b")
    assert wanted.entry == "mesh.bus:serve"
    assert wanted.client_url == f"zmq://{tmp_path}/a%20b"
    assert bus.connect(wanted.client_url, name="order").state == "connecting"
    named = bus.program(f"zmq://{tmp_path}/own", directory=tmp_path, sockets=tmp_path / "run")
    assert named.client_url == f"zmq://{tmp_path}/own"


def test_door_loads_no_zeromq_until_it_is_used():
    code = (
        "import sys; from pathlib import Path; from mesh import bus;"
        "bus.program('zmq://', directory=Path('a'), sockets=Path('b'));"
        "sys.exit('zmq' in sys.modules or 'sqlite3' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
