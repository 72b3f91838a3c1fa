"""The shop as a whole: time to ready, memory, orders per second, recovery.

Every order is a new one with its own key: two durable commits in order, one in product, identity,
outbox and events included. Clients are closed loops in one process beside the services, on the
same cores.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aiohttp
import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.support.running import ADDRESS, LAMP, RunningMesh, tough_shop  # noqa: E402  after the path

RUN_S = float(os.environ.get("SECONDS_EACH", "5"))
ROUNDS = 3

STEADY_S = 10.5
"""A program that was ready this long is started again at once; before, backoff is measured too."""


def wall_ms(mesh: RunningMesh, *args: str, times: int = 11) -> list[float]:
    """Wall time of a whole command, milliseconds."""
    found = []
    for _ in range(times):
        begun = time.perf_counter()
        mesh.run(*args)
        found.append((time.perf_counter() - begun) * 1e3)
    return found


def show(what: str, values: list[float], unit: str) -> None:
    print(
        f"{what:44} {statistics.median(values):10.1f} {unit}   (min {min(values):.1f},"
        f" max {max(values):.1f}, n {len(values)})",
        flush=True,
    )


def pss_mib(pids: list[int]) -> float:
    return sum(psutil.Process(pid).memory_full_info().pss for pid in pids) / 2**20


def family(mesh: RunningMesh) -> list[int]:
    supervisor = psutil.Process(mesh.supervisor())
    return [supervisor.pid, *(child.pid for child in supervisor.children(recursive=True))]


async def orders_per_s(
    url: str, token: str, clients: int, seconds: float
) -> tuple[float, list[float]]:
    """Closed-loop clients; returns orders per second and each latency in milliseconds."""
    body = json.dumps({"lines": [{"product_id": LAMP, "quantity": 1}], "ship_to": ADDRESS}).encode()
    latencies: list[float] = []
    end = time.perf_counter() + seconds

    async def client(session: aiohttp.ClientSession, number: int) -> None:
        count = 0
        while time.perf_counter() < end:
            count += 1
            headers = {
                "Authorization": f"Bearer {token}",
                "Content-Type": "application/json",
                "Idempotency-Key": f"{os.getpid()}-{clients}-{number}-{time.time_ns()}",
            }
            begun = time.perf_counter()
            async with session.post(f"{url}/orders", data=body, headers=headers) as response:
                raw = await response.read()
                if response.status != 201 or b'"reserved"' not in raw:
                    raise SystemExit(f"an order was answered {response.status}: {raw[:300]!r}")
            latencies.append((time.perf_counter() - begun) * 1e3)

    connector = aiohttp.TCPConnector(limit=0)
    begun = time.perf_counter()
    async with aiohttp.ClientSession(connector=connector) as session:
        await asyncio.gather(*(client(session, number) for number in range(clients)))
    return len(latencies) / (time.perf_counter() - begun), latencies


def recover_ms(mesh: RunningMesh) -> float:
    """From kill -9 of order to its next answer of /readyz."""
    time.sleep(STEADY_S)
    pid = int(mesh.services()["order"]["pid"])
    begun = time.perf_counter()
    os.kill(pid, signal.SIGKILL)
    mesh.ask("order", "GET", "/livez")  # waits in the listener's backlog for the successor
    taken = (time.perf_counter() - begun) * 1e3
    mesh.run("wait", "order")
    return taken


def main() -> None:
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    print(f"commit {commit}")
    ready, down = [], []
    for _ in range(7):
        with tempfile.TemporaryDirectory() as folder:
            mesh = RunningMesh(Path(folder))
            begun = time.perf_counter()
            mesh.up()
            ready.append((time.perf_counter() - begun) * 1e3)
            begun = time.perf_counter()
            mesh.down()
            down.append((time.perf_counter() - begun) * 1e3)
    show("mesh up -d to ready, fresh data, whole command", ready, "ms")
    show("mesh down, whole command", down, "ms")
    with tempfile.TemporaryDirectory() as folder:
        mesh = tough_shop(Path(folder)).up()
        try:
            show("mesh ps", wall_ms(mesh, "ps"), "ms")
            show("mesh --help", wall_ms(mesh, "--help"), "ms")
            show("mesh call order create", wall_ms(mesh, "call", "order", "create"), "ms")
            show("memory of the whole mesh (PSS)", [pss_mib(family(mesh))], "MiB")
            token, url = mesh.login("alice"), mesh.url("order")
            asyncio.run(orders_per_s(url, token, 16, 1.0))
            for clients in (1, 16, 64):
                rates, latencies = [], []
                for _ in range(ROUNDS):
                    rate, found = asyncio.run(orders_per_s(url, token, clients, RUN_S))
                    rates.append(rate)
                    latencies += found
                show(f"orders/s, {clients} clients, FULL durability", rates, "/s")
                cuts = statistics.quantiles(latencies, n=100)
                print(f"{'':44} p50 {cuts[49]:.1f} ms, p99 {cuts[98]:.1f} ms")
            show("memory after the load (PSS)", [pss_mib(family(mesh))], "MiB")
            mesh.idle()
            show(
                "kill -9 of a steady order to its next answer",
                [recover_ms(mesh) for _ in range(5)],
                "ms",
            )
        finally:
            mesh.down()


if __name__ == "__main__":
    main()
