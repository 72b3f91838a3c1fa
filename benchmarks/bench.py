"""The figures that stand for the whole, in one run, and one table of ratios at the end.

    python benchmarks/bench.py          under a quarter of an hour; `make bench` keeps what it prints

Orders beside the same by hand and in other frameworks; the bus beside other brokers; the database
layer beside SQLite; single things beside the least that does the same; time to ready, memory and
recovery; growth. Each part is a script of its own that says how it measures. A ratio is the
median of the rounds' own ratios where both were measured in turns, else of the medians.
"""

from __future__ import annotations

import datetime as dt
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import figures

ROOT = Path(__file__).resolve().parents[1]

PARTS = (
    ("one order over two services", "orders.py", "--rounds", "5", "--seconds", "2"),
    ("events", "bus.py", "--runs", "1", "--events", "50000", "--seconds", "3"),
    ("the database layer", "database.py", "--rounds", "5", "--seconds", "0.4"),
    ("single things", "costs.py", "--rounds", "3"),
    ("all ready", "supervisors.py", "--only", "mesh,honcho", "--runs", "3", "--seconds", "1"),
    ("spans", "tracing.py", "--pairs", "40"),
    ("the shop", "shop.py"),
    ("growth", "growth.py"),
)
PART_S = 600

AT_LEAST, AT_MOST = "at least", "at most"


@dataclass(frozen=True)
class Aim:
    """One ratio that matters: `ours` over `other`, both names of figures; "" is 1."""

    what: str
    ours: str
    beside: str
    other: str
    sense: str
    bound: float


AIMS = (
    Aim("orders/s, 1 client", "orders/s ours 1", "by hand", "orders/s byhand 1", AT_LEAST, 0.5),
    Aim("orders/s, 16 clients", "orders/s ours 16", "by hand", "orders/s byhand 16", AT_LEAST, 0.5),
    Aim("orders/s, 64 clients", "orders/s ours 64", "by hand", "orders/s byhand 64", AT_LEAST, 0.5),
    Aim("order p50, 1 client", "p50 ours 1", "by hand", "p50 byhand 1", AT_MOST, 2.0),
    Aim("order p99, 1 client", "p99 ours 1", "by hand", "p99 byhand 1", AT_MOST, 1.5),
    *(
        Aim(
            f"orders/s, {clients} client{'s' * (clients > 1)}",
            f"orders/s ours {clients}",
            "FastStream, NATS",
            f"orders/s faststream {clients}",
            AT_LEAST,
            1.2 if clients == 64 else 1.0,
        )
        for clients in (1, 16, 64)
    ),
    Aim(
        "orders/s, 64 clients",
        "orders/s ours 64",
        "Nameko, RabbitMQ",
        "orders/s nameko 64",
        AT_LEAST,
        5.4,
    ),
    Aim("order p50, 1 client", "p50 ours 1", "Nameko, RabbitMQ", "p50 nameko 1", AT_MOST, 0.44),
    Aim("one endpoint", "endpoint ours", "aiohttp by hand", "endpoint aiohttp", AT_LEAST, 0.6),
    Aim("one endpoint", "endpoint ours", "FastAPI, uvicorn", "endpoint fastapi", AT_LEAST, 2.0),
    Aim(
        "one endpoint", "endpoint ours", "Starlette, uvicorn", "endpoint starlette", AT_LEAST, 0.75
    ),
    Aim("events/s, end to end", "events/s ours", "by hand, fsync", "events/s pair", AT_LEAST, 0.4),
    Aim("events/s, end to end", "events/s ours", "NATS JetStream", "events/s nats", AT_LEAST, 0.85),
    Aim("events/s, end to end", "events/s ours", "Redis, fsync", "events/s redis", AT_LEAST, 0.9),
    Aim("events/s, end to end", "events/s ours", "RabbitMQ", "events/s rabbit", AT_LEAST, 3.6),
    Aim(
        "event p50 at 1,000/s",
        "event p50 ms ours",
        "by hand, fsync",
        "event p50 ms pair",
        AT_MOST,
        2.0,
    ),
    Aim(
        "event p99 at 1,000/s",
        "event p99 ms ours",
        "NATS JetStream",
        "event p99 ms nats",
        AT_MOST,
        4.0,
    ),
    Aim(
        "transactions/s, 64 writers",
        "transactions/s ours 64",
        "sqlite3 by hand",
        "transactions/s bare 64",
        AT_LEAST,
        0.5,
    ),
    Aim(
        "transactions/s, 64 writers",
        "transactions/s ours 64",
        "aiosqlite",
        "transactions/s aiosqlite 64",
        AT_LEAST,
        12.0,
    ),
    Aim(
        "transactions/s, 1 writer",
        "transactions/s ours 1",
        "sqlite3 by hand",
        "transactions/s bare 1",
        AT_LEAST,
        0.85,
    ),
    Aim("a point read", "read us one(struct)", "sqlite3", "read us sqlite3", AT_MOST, 3.3),
    Aim("mesh --version", "version ours", "import click", "version least", AT_MOST, 1.25),
    Aim("all ready", "ready mesh", "honcho", "ready honcho", AT_MOST, 0.9),
    Aim("memory of the shop", "memory ours", "four by hand", "memory least", AT_MOST, 1.0),
    Aim("idle CPU of a service, %", "idle closed", "", "", AT_MOST, 0.5),
    Aim("the same, dashboard open, %", "idle open", "", "", AT_MOST, 3.0),
    Aim("CPU an order with spans", "traced CPU", "without", "untraced CPU", AT_MOST, 1.18),
    Aim("logins/s", "logins ours", "two threads of argon2id", "logins least", AT_LEAST, 0.85),
)


def commit() -> str:
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip() or "unknown"


def table(found: dict[str, list[float]]) -> None:
    """Every aim with what came out; one that could not be measured is named."""
    print(f"{'':30}{'here':>11}  {'beside':24}{'':>11}{'ratio':>8}  aim")
    for aim in AIMS:
        ours, others = found.get(aim.ours), found.get(aim.other, [1.0])
        if not ours or (aim.other and aim.other not in found):
            print(f"{aim.what:30}{'':11}  {aim.beside:24}not measured")
            continue
        if len(ours) == len(others):
            ratio = statistics.median(a / b for a, b in zip(ours, others, strict=True))
        else:
            ratio = statistics.median(ours) / statistics.median(others)
        good = ratio >= aim.bound if aim.sense is AT_LEAST else ratio <= aim.bound
        other = f"{statistics.median(others):,.2f}" if aim.other else ""
        print(
            f"{aim.what:30}{statistics.median(ours):11,.2f}  {aim.beside:24}{other:>11}"
            f"{ratio:8.2f}  {aim.sense} {aim.bound:g}: {'yes' if good else 'no'}"
        )


def main() -> None:
    begun = time.monotonic()
    now = dt.datetime.now(dt.UTC)
    print(f"{now:%Y-%m-%d %H:%M} UTC, commit {commit()}")
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"load average {os.getloadavg()[0]:.1f} before")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "figures"
        file.touch()
        for title, script, *options in PARTS:
            print(f"\n## {title}: python benchmarks/{' '.join((script, *options))}\n", flush=True)
            done = subprocess.run(
                [sys.executable, str(ROOT / "benchmarks" / script), *options],
                env={**os.environ, figures.WHERE: str(file)},
                check=False,
                timeout=PART_S,
            )
            if done.returncode:
                raise SystemExit(f"{script} ended with {done.returncode}")
        print("\n## ratios\n")
        table(figures.noted(file))
    print(f"\nall in {(time.monotonic() - begun) / 60:.1f} min")


if __name__ == "__main__":
    main()
