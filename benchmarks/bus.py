"""Events through the bus, durable at every step: how many a second, and how late.

    python benchmarks/bus.py [--events 100000] [--rate 1000] [--seconds 5] [--runs 3]
                             [--log-events 1000000] [--only ours,peers,log]

Three processes: a publisher that commits to its outbox, the broker, a consumer that commits effect
and cursor; SQLite with `synchronous=FULL` in all three, bodies of 400 bytes, uvloop. *End to end*
is from the first event told to the last one durable at the consumer. Latency is from the moment
an event was due to be told, so a publisher that falls behind is not forgiven.

Beside ours: a bare pyzmq pair, a durable pair written by hand, and NATS, Redis and RabbitMQ where
they answer on their standard ports (`peers.py`; their clients are installed into a directory of
their own under ~/.cache). At the end the cost of a long log: a cold `mesh events tail`, and the
memory of the bus, with so many events in the log and with none.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import socket
import sqlite3
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import uvloop

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "benchmarks"))

import figures  # noqa: E402  after the path

from mesh import bus, clock  # noqa: E402  likewise
from mesh.bus import (  # noqa: E402  after the path
    NO_HASH,
    ORIGIN,
    Applied,
    Cursor,
    Epoch,
    Event,
    Link,
    OutboxState,
    Position,
    chain_hash,
)
from mesh.buses.zmq.log import Advancing, Group, Log  # noqa: E402  after the path
from mesh.framework.outbox import PACE_S as SERVICE_PACE_S  # noqa: E402  likewise
from tests.support.running import RunningMesh  # noqa: E402  after the path

BODY_BYTES = 400
GROUP = 256
BACKLOG_MAX = 32_768
"""Events told and not yet known to be acknowledged, which an outbox hears ten times a second."""

SENSELESS: dict[str, set[str]] = {
    "full": {"told/s", "p50 ms", "p99 ms"},
    "flood": {"p50 ms", "p99 ms"},
    "paced": {"told/s", "acknowledged/s", "end to end/s"},
    "service": {"told/s", "acknowledged/s", "end to end/s"},
}
"""Figures that mean nothing in a mode: latency under overload is the length of the queue."""

_STAMP = struct.Struct(">q")
_OUTBOX = """CREATE TABLE outbox (seq INTEGER PRIMARY KEY, epoch INT, prev_epoch INT, prev_hash BLOB,
    hash BLOB, id BLOB, type TEXT, key TEXT, ts_ms INT, trace BLOB, body BLOB)"""
_INBOX = """CREATE TABLE cursor (one INTEGER PRIMARY KEY, epoch INT, seq INT, hash BLOB);
    CREATE TABLE effect (n INTEGER PRIMARY KEY, body BLOB)"""


class Database:
    """Statements on the loop, the wait for the disk on a thread, as in the framework."""

    def __init__(self, path: Path, schema: str) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "wal_autocheckpoint = 8000"):
            self.connection.execute(f"PRAGMA {pragma}")
        self.connection.executescript(schema)
        self._disk = ThreadPoolExecutor(1)
        self._lock = asyncio.Lock()

    async def many(self, *work: tuple[str, Sequence[Sequence[object]]]) -> None:
        async with self._lock:
            self.connection.execute("BEGIN IMMEDIATE")
            for sql, rows in work:
                self.connection.executemany(sql, rows)
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._disk, self.connection.execute, "COMMIT")


class Outbox:
    def __init__(self, path: Path) -> None:
        self.database = Database(path, _OUTBOX)
        self.reader = sqlite3.connect(path, isolation_level=None)
        self.head = self.told = ORIGIN
        self.acked = 0
        self.moved = asyncio.Event()

    async def tell(self, bodies: Sequence[bytes]) -> None:
        rows = []
        for body in bodies:
            last = self.told
            rest = (clock.uuid7(), "order.status_changed", "ord_1", clock.now_ms(), b"{}", body)
            self.told = Link(1, last.seq + 1, chain_hash(last.hash, 1, last.seq + 1, *rest))
            rows.append((self.told.seq, 1, last.epoch, last.hash, self.told.hash, *rest))
        told = self.told
        insert = "INSERT INTO outbox VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        await self.database.many((insert, rows))
        self.head = told

    async def state(self) -> OutboxState:
        return OutboxState((Epoch(1, 0, NO_HASH, b"n"),), self.head, 1)

    async def after(self, seq: int, *, rows_max: int, bytes_max: int) -> list[Event]:
        rows = self.reader.execute(
            "SELECT epoch, seq, prev_epoch, prev_hash, hash, id, type, key, ts_ms, trace, body"
            " FROM outbox WHERE seq > ? ORDER BY seq LIMIT ?",
            (seq, min(rows_max, bytes_max // BODY_BYTES + 1)),
        )
        return [Event("order", *row) for row in rows.fetchall()]

    def taken(self, position: Position) -> None:
        """Nothing here waits for less than durable."""

    async def acknowledged(self, position: Position) -> None:
        self.acked = position.seq
        self.moved.set()


class Inbox:
    def __init__(self, path: Path, expected: int) -> None:
        self.database = Database(path, _INBOX)
        self.now = Cursor()
        self.expected = expected
        self.late_ms: list[float] = []
        self.done = asyncio.Event()

    async def cursor(self, _stream: str) -> Cursor:
        return self.now

    async def notice(self, _stream: str, epoch: Epoch, _base: Link) -> Cursor:
        self.now = Cursor(self.now.link, epoch.epoch, epoch.base)
        return self.now

    async def begin(self, _stream: str, link: Link) -> Cursor:
        self.now = Cursor(link, self.now.known_epoch, self.now.known_base)
        return self.now

    async def apply(self, _stream: str, events: Sequence[Event]) -> Applied:
        link = events[-1].link
        await self.database.many(
            ("INSERT INTO effect (body) VALUES (?)", [(event.body,) for event in events]),
            ("INSERT OR REPLACE INTO cursor VALUES (1, ?, ?, ?)", [(1, link.seq, link.hash)]),
        )
        now = time.monotonic_ns()
        self.late_ms += [(now - _STAMP.unpack_from(event.body)[0]) / 1e6 for event in events]
        self.now = Cursor(link, self.now.known_epoch, self.now.known_base)
        if link.seq >= self.expected:
            self.done.set()
        return Applied(self.now)


def body(due_ns: int) -> bytes:
    return _STAMP.pack(due_ns).ljust(BODY_BYTES, b"x")


async def fill(outbox: Outbox, events: int) -> None:
    for number in range(0, events, GROUP):
        await outbox.tell([body(0)] * min(GROUP, events - number))


async def flood(outbox: Outbox, events: int, wake) -> None:
    for number in range(0, events, GROUP):
        await outbox.tell([body(time.monotonic_ns())] * min(GROUP, events - number))
        wake()
        while outbox.head.seq - outbox.acked > BACKLOG_MAX:
            outbox.moved.clear()
            await outbox.moved.wait()


async def pace(outbox: Outbox, events: int, wake, rate: float) -> None:
    """Tell each event when it is due; those that fell due during a commit share the next."""
    start, number = time.monotonic_ns(), 0
    while number < events:
        wait_s = (start + number * 1e9 / rate - time.monotonic_ns()) / 1e9
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        due = min(events, int((time.monotonic_ns() - start) * rate / 1e9) + 1)
        await outbox.tell([body(start + int(n * 1e9 / rate)) for n in range(number, due)])
        wake()
        number = due


async def publish(
    url: str, path: Path, mode: str, events: int, rate: float, ready, go, told
) -> None:
    outbox = Outbox(path)
    connection = bus.connect(url, name="order")
    await connection.start()
    if mode == "full":
        await fill(outbox, events)
    else:
        connection.relay(outbox, pace_s=SERVICE_PACE_S if mode == "service" else None)
        while connection.state != "live":
            await asyncio.sleep(0.01)
    ready.set()
    await asyncio.to_thread(go.wait)
    cpu, start = time.process_time(), time.monotonic_ns()
    if mode == "full":
        connection.relay(outbox)
    elif mode == "flood":
        await flood(outbox, events, connection.wake)
    else:
        await pace(outbox, events, connection.wake, rate)
    end = time.monotonic_ns()
    while outbox.acked < events:
        outbox.moved.clear()
        await outbox.moved.wait()
    told.put(("publisher", start, end, time.monotonic_ns(), time.process_time() - cpu))
    await connection.close()


async def consume(url: str, path: Path, events: int, ready, answers) -> None:
    inbox = Inbox(path, events)
    connection = bus.connect(url, name="product")
    await connection.start()
    connection.subscribe(["order"], inbox)
    while connection.state != "live":
        await asyncio.sleep(0.01)
    cpu = time.process_time()
    ready.set()
    await inbox.done.wait()
    answers.put(("consumer", time.monotonic_ns(), inbox.late_ms, time.process_time() - cpu))
    await connection.close()


def others_cores(seconds: float = 1.0) -> float:
    """Cores that other programs use just now."""
    return psutil.cpu_percent(seconds) / 100 * (os.cpu_count() or 1)


def commit_ms() -> float:
    """What one small commit costs on this disk just now, by hand."""
    with tempfile.TemporaryDirectory(prefix="mesh-bench-") as name:
        connection = sqlite3.connect(Path(name) / "commit.db", isolation_level=None)
        for sql in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", "CREATE TABLE t (b)"):
            connection.execute(sql)
        took = []
        for _ in range(200):
            start = time.perf_counter()
            connection.execute("INSERT INTO t VALUES (zeroblob(400))")
            took.append(time.perf_counter() - start)
        connection.close()
    return statistics.median(took) * 1e3


def _publisher(*args) -> None:
    uvloop.run(publish(*args))


def _consumer(*args) -> None:
    uvloop.run(consume(*args))


def _broker(*args: str) -> None:
    bus.serve(*args)


def trial(mode: str, events: int, rate: float = 0.0) -> dict[str, float]:
    start = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="mesh-bench-") as name:
        directory = Path(name)
        wanted = bus.program("zmq://", directory=directory / "bus", sockets=directory / "run")
        assert wanted is not None
        answers, go = start.Queue(), start.Event()
        listening, filled = start.Event(), start.Event()
        url = wanted.client_url
        broker = start.Process(target=_broker, args=wanted.args)
        consumer = start.Process(
            target=_consumer, args=(url, directory / "in.db", events, listening, answers)
        )
        publisher = start.Process(
            target=_publisher,
            args=(url, directory / "out.db", mode, events, rate, filled, go, answers),
        )
        for process in (broker, consumer, publisher):
            process.start()
        listening.wait()
        filled.wait()
        before = psutil.Process(broker.pid).cpu_times()
        go.set()
        found = {answer[0]: answer[1:] for answer in (answers.get(), answers.get())}
        after = psutil.Process(broker.pid).cpu_times()
        publisher.join()
        consumer.join()
        broker.terminate()
        broker.join()
    begun, told, acked, publisher_s = found["publisher"]
    ended, late_ms, consumer_s = found["consumer"]
    late_ms.sort()
    busy_s = after.user + after.system - before.user - before.system
    figures = {
        "told/s": events / (told - begun) * 1e9,
        "acknowledged/s": events / (acked - begun) * 1e9,
        "end to end/s": events / (ended - begun) * 1e9,
        "p50 ms": late_ms[len(late_ms) // 2],
        "p99 ms": late_ms[int(len(late_ms) * 0.99)],
        "publisher CPU us/event": publisher_s / events * 1e6,
        "broker CPU us/event": busy_s / events * 1e6,
        "consumer CPU us/event": consumer_s / events * 1e6,
    }
    return {key: value for key, value in figures.items() if key not in SENSELESS[mode]}


# The others


CACHE = Path.home() / ".cache" / "mesh-benchmarks"
CLIENTS = ("nats-py==2.16.0", "redis==8.1.0", "aio-pika==10.2.1", "pyzmq==27.1.0", "uvloop==0.22.1")
"""Chosen by the benchmark alone; the project needs none of them."""

PEERS: dict[str, tuple[str, int | None]] = {
    "zmq": ("raw pyzmq, nothing durable", None),
    "pair": ("by hand, SQLite FULL both sides", None),
    "nats": ("NATS JetStream, file, no fsync", 4222),
    "redis": ("Redis Streams, appendfsync always", 6379),
    "rabbit": ("RabbitMQ, durable queue, confirms", 5672),
}
TRIAL_S = 300.0


def listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def peers_python() -> str:
    """A Python with the clients; makes it the first time."""
    python = CACHE / "venv" / "bin" / "python"
    wanted = "\n".join(CLIENTS)
    mark = CACHE / "installed"
    if not mark.is_file() or mark.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", python.parents[1]], check=True)
        install = [python, "-m", "pip", "install", "-q", *CLIENTS]
        done = subprocess.run(install, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"the clients of other buses cannot be installed:\n{done.stderr}")
        mark.write_text(wanted)
    return str(python)


def peer_trial(python: str, peer: str, mode: str, events: int, rate: float) -> dict[str, float]:
    script = str(ROOT / "benchmarks" / "peers.py")
    done = subprocess.run(
        [python, script, peer, mode, str(events), str(rate)],
        capture_output=True,
        text=True,
        check=False,
        timeout=TRIAL_S,
    )
    if done.returncode:
        raise RuntimeError((done.stderr.strip() or "no answer").splitlines()[-1])
    return json.loads(done.stdout)


# The table


def row(
    title: str, name: str, flood: Sequence[dict[str, float]], paced: Sequence[dict[str, float]]
) -> None:
    def middle(runs: Sequence[dict[str, float]], key: str) -> float:
        return statistics.median(run[key] for run in runs)

    def spread(runs: Sequence[dict[str, float]], key: str) -> str:
        return f"{min(run[key] for run in runs):,.0f}-{max(run[key] for run in runs):,.0f}"

    figures.note(f"events/s {name}", [run["end to end/s"] for run in flood])
    for key in ("p50 ms", "p99 ms"):
        figures.note(f"event {key} {name}", [run[key] for run in paced])
    print(
        f"{title:36}{middle(flood, 'published/s'):>12,.0f}{middle(flood, 'end to end/s'):>14,.0f}"
        f"{middle(paced, 'p50 ms'):>9.2f}{middle(paced, 'p99 ms'):>9.2f}"
        f"   ({spread(flood, 'end to end/s')} end to end)",
        flush=True,
    )


def ours(options: argparse.Namespace) -> None:
    def flood() -> dict[str, float]:
        found = trial("flood", options.events)
        return {**found, "published/s": found["acknowledged/s"]}

    count = int(options.rate * options.seconds)
    floods = [flood() for _ in range(options.runs)]
    row(
        "mesh, fsync in outbox and log",
        "ours",
        floods,
        [trial("paced", count, options.rate) for _ in range(options.runs)],
    )
    slow = [trial("service", count, options.rate) for _ in range(options.runs)]
    p50, p99 = (statistics.median(run[key] for run in slow) for key in ("p50 ms", "p99 ms"))
    print(f"{'  told at the pace of a service':36}{'':26}{p50:>9.2f}{p99:>9.2f}")
    full = [trial("full", options.events) for _ in range(options.runs)]
    told = statistics.median(run["told/s"] for run in floods)
    end = statistics.median(run["end to end/s"] for run in full)
    print(f"{'  told, durable in the outbox':36}{told:>12,.0f}")
    print(f"{'  from an outbox that is full':36}{'':12}{end:>14,.0f}")
    for who in ("publisher", "broker", "consumer"):
        key = f"{who} CPU us/event"
        spent = statistics.median(run[key] for run in full)
        print(f"{f'  {who}, CPU us an event':36}{spent:>12.1f}")


def peers(options: argparse.Namespace) -> None:
    python = peers_python()
    count = int(options.rate * options.seconds)
    for peer, (title, port) in PEERS.items():
        if port is not None and not listens(port):
            print(f"{title:36}skipped: nothing listens on port {port}", flush=True)
            continue
        try:
            row(
                title,
                peer,
                [peer_trial(python, peer, "flood", options.events, 0) for _ in range(options.runs)],
                [
                    peer_trial(python, peer, "paced", count, options.rate)
                    for _ in range(options.runs)
                ],
            )
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            print(f"{title:36}failed: {error}", flush=True)


# A long log

LOGGED_AT_ONCE = 5000
TAILS = 7
SETTLE_S = 3.0


def fill_log(directory: Path, events: int) -> None:
    """As many events in the log as if a producer had told them."""
    log, last = Log(directory), ORIGIN
    log.stage(Group(advances=(Advancing("order", (Epoch(1, 0, NO_HASH, b"n"),), ORIGIN),)))
    log.commit()
    for number in range(0, events, LOGGED_AT_ONCE):
        group = []
        for _ in range(min(LOGGED_AT_ONCE, events - number)):
            rest = (clock.uuid7(), "order.status_changed", "ord_1", clock.now_ms(), b"{}", b"{}")
            rest = (*rest[:-1], b'{"note":"' + b"x" * (BODY_BYTES - 11) + b'"}')
            digest = chain_hash(last.hash, 1, last.seq + 1, *rest)
            group.append(Event("order", 1, last.seq + 1, last.epoch, last.hash, digest, *rest))
            last = group[-1].link
        log.stage(Group(events=tuple(group)))
        log.commit()
        if log.checkpoint_due(idle=True):
            log.checkpoint()
    log.close()


def long_log(options: argparse.Namespace) -> None:
    for events in (0, options.log_events):
        with tempfile.TemporaryDirectory(prefix="mesh-bench-") as name:
            fill_log(Path(name) / "data" / "bus", events)
            mesh = RunningMesh(Path(name)).up("bus")
            try:
                time.sleep(SETTLE_S)
                took = []
                for _ in range(TAILS):
                    start = time.perf_counter()
                    shown = mesh.run("events", "tail", "-n", "10", "--no-follow", "--json").stdout
                    took.append((time.perf_counter() - start) * 1e3)
                assert len(shown.splitlines()) == min(10, events)
                rss = mesh.services()["bus"]["rss_bytes"] / 2**20
            finally:
                mesh.down()
        print(
            f"log of {events:>9,} events: cold `events tail` {statistics.median(took):7.1f} ms"
            f" ({min(took):.1f}-{max(took):.1f}, n {len(took)}), bus RSS {rss:.1f} MiB",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--rate", type=float, default=1000.0)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--log-events", type=int, default=1_000_000)
    parser.add_argument("--only", default="ours,peers,log")
    options = parser.parse_args()
    parts = options.only.split(",")
    print(f"{os.cpu_count()} cores, {options.runs} runs each; events of {BODY_BYTES} bytes")
    print(f"others use {others_cores():.2f} cores; one commit takes {commit_ms():.2f} ms (median)")
    print(f"\n{'':36}{'published/s':>12}{'end to end/s':>14}{'p50 ms':>9}{'p99 ms':>9}")
    if "ours" in parts:
        ours(options)
    if "peers" in parts:
        peers(options)
    print()
    if "log" in parts:
        long_log(options)


if __name__ == "__main__":
    main()
