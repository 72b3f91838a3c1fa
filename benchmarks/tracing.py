"""What recording spans costs an order: the same shop with it and without, in short turns.

    python benchmarks/tracing.py [--pairs 60] [--seconds 0.4] [--clients 8]

Whether a story is recorded is the caller's to say (the last digits of `traceparent`), so one mesh
takes orders of both kinds, each first in every other pair. Compared is the time that all its
processes were on a CPU for an order (/proc/PID/task/*/schedstat), since the rate is everybody's on this
machine: the ratio of each pair, its median, and the interval that holds the median of such
pairs in 95 of 100 cases (by their ranks).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "benchmarks"))

import figures  # noqa: E402  after the path

from tests.support.running import ADDRESS, LAMP, RunningMesh, tough_shop  # noqa: E402  likewise

if TYPE_CHECKING:
    from collections.abc import Iterator

DRIVER = ROOT / "benchmarks" / "driver.py"
TRIAL_S = 60.0
WARM_S = 1.0
SETTLE_S = 0.25
"""For the events of the last orders, and the spans' way to the file."""

RECORDED, SILENT = b"01", b"00"


@dataclass
class Shop:
    """One mesh: its processes, and the request that is driven at it."""

    mesh: RunningMesh
    pids: list[int]
    port: str
    request: bytes

    def cpu_s(self) -> float:
        """Time on a CPU since the start, of every thread that lives."""
        total_ns = 0
        for pid in self.pids:
            for task in Path(f"/proc/{pid}/task").iterdir():
                total_ns += int((task / "schedstat").read_text("ascii").split()[0])
        return total_ns / 1e9


@contextlib.contextmanager
def running() -> Iterator[Shop]:
    with tempfile.TemporaryDirectory(prefix="mesh-") as folder:
        mesh = tough_shop(Path(folder)).up()
        try:
            port = mesh.url("order").rpartition(":")[2]
            body = json.dumps(
                {"lines": [{"product_id": LAMP, "quantity": 1}], "ship_to": ADDRESS}
            ).encode()
            head = (
                f"POST /orders HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
                f"Authorization: Bearer {mesh.login('alice')}\r\nIdempotency-Key: @KEY@\r\n"
                f"traceparent: 00-{'a' * 32}-{'b' * 16}-@FLAGS@\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            supervisor = psutil.Process(mesh.supervisor())
            pids = [supervisor.pid, *(each.pid for each in supervisor.children(recursive=True))]
            yield Shop(mesh, pids, port, head.encode() + body)
        finally:
            mesh.down()


def trial(shop: Shop, flags: bytes, clients: int, seconds: float) -> tuple[float, float]:
    """CPU milliseconds an order, and orders a second."""
    before_s = shop.cpu_s()
    done = subprocess.run(
        [sys.executable, str(DRIVER), shop.port, str(clients), str(seconds)],
        input=shop.request.replace(b"@FLAGS@", flags),
        stdout=subprocess.PIPE,
        timeout=TRIAL_S,
        check=True,
    )
    time.sleep(SETTLE_S)
    found = json.loads(done.stdout)
    return (shop.cpu_s() - before_s) * 1e3 / found["orders"], found["rate"]


def interval(ratios: list[float]) -> tuple[float, float]:
    """The bounds of the median, by the sign test at 95 %."""
    ordered, count = sorted(ratios), len(ratios)
    beyond, rank = 0.0, 0
    while rank < count // 2 and (beyond := beyond + math.comb(count, rank) / 2**count) <= 0.025:
        rank += 1
    return ordered[max(0, rank - 1)], ordered[min(count - 1, count - rank)]


def compare(pairs: int, seconds: float, clients: int) -> None:
    with running() as shop:
        trial(shop, SILENT, clients, WARM_S)
        rows = []
        for number in range(pairs):
            order = (RECORDED, SILENT) if number % 2 else (SILENT, RECORDED)
            found = {flags: trial(shop, flags, clients, seconds) for flags in order}
            rows.append((*found[RECORDED], *found[SILENT]))
        dropped = sum(row["dropped"] or 0 for row in shop.mesh.services().values())
    with_ms, with_rate, without_ms, without_rate = (
        statistics.median(row[place] for row in rows) for place in range(4)
    )
    ratios = [row[0] / row[2] for row in rows]
    figures.note("traced CPU", [row[0] for row in rows])
    figures.note("untraced CPU", [row[2] for row in rows])
    low, high = interval(ratios)
    print(f"CPU ms an order: {with_ms:.3f} with spans, {without_ms:.3f} without")
    print(f"orders a second: {with_rate:.0f} with spans, {without_rate:.0f} without")
    print(
        f"cost of spans: {100 * (statistics.median(ratios) - 1):+.1f} % of the CPU of an order"
        f" ({100 * (low - 1):+.1f} to {100 * (high - 1):+.1f} %, {pairs} pairs); dropped {dropped}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=0.4)
    parser.add_argument("--clients", type=int, default=8)
    chosen = parser.parse_args()
    load = os.getloadavg()[0]
    print(f"{platform.platform()}, {os.cpu_count()} cores, load {load:.1f} before")
    compare(chosen.pairs, chosen.seconds, chosen.clients)


if __name__ == "__main__":
    main()
