"""One order over two services, four times: ours, by hand, FastStream over NATS, Nameko.

    python benchmarks/orders.py [--rounds 5] [--seconds 3] [--only ours,byhand,faststream,nameko]

Everything in turns (ours, by hand, …, ours, …) in one run on one machine, so a slow minute hits
all; quoted are medians, and medians of each round's ratio to *by hand*. Ours has identity, keys,
deadlines, events through the bus and two commits with fsync an order, as by hand; the
frameworks have none with fsync. Clients are closed loops in a process beside the services. Ours
and *by hand* get the same one over HTTP, the frameworks their own client.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "benchmarks"))

import figures  # noqa: E402  after the path

from tests.support.running import ADDRESS, LAMP, tough_shop  # noqa: E402  likewise

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.running import RunningMesh

HERE = ROOT / "benchmarks"
CLIENTS = (1, 16, 64)
START_S = 20.0
TRIAL_S = 60.0
WARM_S = 1.0
PACKAGES = {"faststream": ["faststream[nats]", "uvloop"], "nameko": ["nameko", "setuptools"]}
SERVERS = {"faststream": ("NATS", 4222), "nameko": ("RabbitMQ", 5672)}


@dataclass
class Contender:
    """Something that takes orders: how to drive it, and the processes that serve."""

    name: str
    drive: list[str]
    request: bytes = b""
    pids: list[int] = field(default_factory=list)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def until_listening(port: int) -> None:
    deadline = time.monotonic() + START_S
    while not listens(port):
        if time.monotonic() > deadline:
            raise SystemExit(f"nothing listens on port {port} after {START_S:g} s")
        time.sleep(0.05)


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        ports = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in ports]


@contextlib.contextmanager
def processes(*commands: list[str]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Started in turn, ended by id at the end."""
    running: list[subprocess.Popen[bytes]] = []
    try:
        for command in commands:
            running.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))  # noqa: PERF401  ended even if the next fails
        yield running
    finally:
        for one in running:
            one.send_signal(signal.SIGTERM)
        for one in running:
            try:
                one.wait(5)
            except subprocess.TimeoutExpired:
                one.kill()
                one.wait()


def http(path: str, port: int, headers: dict[str, str], body: object) -> bytes:
    raw = json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Content-Type: application/json"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += [f"Content-Length: {len(raw)}", "", ""]
    return "\r\n".join(lines).encode() + raw


def contender(mesh: RunningMesh) -> Contender:
    """A running shop, asked by alice."""
    port = int(mesh.url("order").rpartition(":")[2])
    headers = {"Authorization": f"Bearer {mesh.login('alice')}", "Idempotency-Key": "@KEY@"}
    body = {"lines": [{"product_id": LAMP, "quantity": 1}], "ship_to": ADDRESS}
    supervisor = psutil.Process(mesh.supervisor())
    return Contender(
        "ours",
        [sys.executable, str(HERE / "driver.py"), str(port)],
        http("/orders", port, headers, body),
        [supervisor.pid, *(child.pid for child in supervisor.children(recursive=True))],
    )


@contextlib.contextmanager
def ours(directory: Path) -> Iterator[Contender]:
    mesh = tough_shop(directory).up()
    try:
        yield contender(mesh)
    finally:
        mesh.down()


@contextlib.contextmanager
def byhand(directory: Path) -> Iterator[Contender]:
    stock, orders = free_ports(2)
    script = [sys.executable, str(HERE / "byhand.py")]
    with processes(
        [*script, "product", str(stock), "0", str(directory)],
        [*script, "order", str(orders), str(stock), str(directory)],
    ) as running:
        until_listening(stock)
        until_listening(orders)
        body = {"user_id": "alice", "lines": [{"product_id": "lamp", "quantity": 1}]}
        yield Contender(
            "byhand",
            [sys.executable, str(HERE / "driver.py"), str(orders)],
            http("/orders", orders, {}, body),
            [one.pid for one in running],
        )


@contextlib.contextmanager
def framework(name: str, directory: Path) -> Iterator[Contender]:
    script = [environment(name), str(HERE / "frameworks.py"), name]
    with processes(
        [*script, "product", str(directory)], [*script, "order", str(directory)]
    ) as running:
        time.sleep(3)  # they say nowhere that they have subscribed
        if any(one.poll() is not None for one in running):
            raise RuntimeError(f"{name} did not start")
        yield Contender(name, [*script, "drive"], pids=[one.pid for one in running])


def environment(name: str) -> str:
    """A Python with a framework's packages.

    Raises: RuntimeError when its packages or its server are not to be had.
    """
    server, port = SERVERS[name]
    if not listens(port):
        raise RuntimeError(f"{server} does not listen on its port {port}")
    return installed(name, PACKAGES[name])


def installed(name: str, packages: list[str]) -> str:
    """A Python with these packages, in the user's cache; made the first time. Raises: RuntimeError."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    home = base / "mesh-benchmarks" / name
    python, mark = home / "bin" / "python", home / "installed"
    if not mark.is_file() or mark.read_text() != " ".join(packages):
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        done = subprocess.run(
            [python, "-m", "pip", "install", "-q", *packages],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"not installed: {(done.stderr.strip() or '?').splitlines()[-1]}")
        mark.write_text(" ".join(packages))
    return str(python)


def cpu_s(pids: list[int]) -> float:
    spent = 0.0
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            times = psutil.Process(pid).cpu_times()
            spent += times.user + times.system
    return spent


def trial(contender: Contender, clients: int, seconds: float) -> dict[str, float]:
    before = cpu_s(contender.pids)
    done = subprocess.run(
        [*contender.drive, str(clients), str(seconds)],
        input=contender.request,
        capture_output=True,
        check=False,
        timeout=seconds + TRIAL_S,
    )
    if done.returncode:
        why = done.stderr.decode(errors="replace").strip() or "no answer"
        raise RuntimeError(why.splitlines()[-1])
    found = json.loads(done.stdout)
    for status, count in found["others"].items():
        print(f"{contender.name}, {clients} clients: {count} times {status}", file=sys.stderr)
    orders = found["rate"] * seconds
    return {**found, "served_cpu_ms": (cpu_s(contender.pids) - before) / orders * 1e3}


def median(rows: list[dict[str, float]], key: str) -> float:
    return statistics.median(row[key] for row in rows)


def show(found: dict[tuple[str, int], list[dict[str, float]]], names: list[str]) -> None:
    titles = {
        "ours": "mesh",
        "byhand": "by hand",
        "faststream": "FastStream, NATS",
        "nameko": "Nameko, RabbitMQ",
    }
    print(
        f"{'':18}{'clients':>8}{'orders/s':>10}{'min':>8}{'max':>8}{'of hand':>9}{'p50 ms':>9}"
        f"{'p99 ms':>9}{'CPU ms/order':>14}"
    )
    for clients in CLIENTS:
        hand = found.get(("byhand", clients), [])
        for name in names:
            rows = found[name, clients]
            if not rows:
                continue
            rates = [row["rate"] for row in rows]
            for key, unit in (("rate", "orders/s"), ("p50_ms", "p50"), ("p99_ms", "p99")):
                figures.note(f"{unit} {name} {clients}", [row[key] for row in rows])
            ratios = [row["rate"] / other["rate"] for row, other in zip(rows, hand, strict=False)]
            ratio = f"{statistics.median(ratios):.2f}" if ratios else "-"
            print(
                f"{titles[name]:18}{clients:8}{statistics.median(rates):10.0f}{min(rates):8.0f}"
                f"{max(rates):8.0f}{ratio:>9}{median(rows, 'p50_ms'):9.2f}"
                f"{median(rows, 'p99_ms'):9.2f}{median(rows, 'served_cpu_ms'):14.2f}"
            )


def compare(names: list[str], rounds: int, seconds: float) -> None:
    """Print the table. What cannot run is said and left out."""
    found: dict[tuple[str, int], list[dict[str, float]]] = defaultdict(list)
    with contextlib.ExitStack() as running:
        contenders = []
        for name in names:
            directory = Path(running.enter_context(tempfile.TemporaryDirectory()))
            start = {"ours": ours, "byhand": byhand}.get(name)
            try:
                context = start(directory) if start else framework(name, directory)
                contenders.append(running.enter_context(context))
            except RuntimeError as error:
                print(f"{name} is left out: {error}")
        for contender in contenders:
            trial(contender, CLIENTS[-1], WARM_S)
        for number in range(rounds):
            for clients in CLIENTS:
                for contender in contenders:
                    found[contender.name, clients].append(trial(contender, clients, seconds))
            print(f"round {number + 1} of {rounds}", file=sys.stderr)
    show(found, [contender.name for contender in contenders])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--only", default="ours,byhand,faststream,nameko")
    chosen = parser.parse_args()
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    compare(chosen.only.split(","), chosen.rounds, chosen.seconds)


if __name__ == "__main__":
    main()
