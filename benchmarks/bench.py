"""The figures that stand for the whole, in one run and one table after the other.

    python benchmarks/bench.py          about ten minutes; `make bench` keeps what it prints

Orders beside the same by hand and in other frameworks; the bus beside other brokers; time to
ready, memory and recovery; growth. Each part is a script of its own that says how it measures.
"""

from __future__ import annotations

import datetime as dt
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

PARTS = (
    ("one order over two services", "orders.py", "--rounds", "5", "--seconds", "2"),
    ("events", "bus.py", "--runs", "1", "--events", "50000", "--seconds", "3"),
    ("the shop", "shop.py"),
    ("growth", "growth.py"),
)
PART_S = 600


def commit() -> str:
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip() or "unknown"


def main() -> None:
    begun = time.monotonic()
    now = dt.datetime.now(dt.UTC)
    print(f"{now:%Y-%m-%d %H:%M} UTC, commit {commit()}")
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    for title, script, *options in PARTS:
        print(f"\n## {title}: python benchmarks/{' '.join((script, *options))}\n", flush=True)
        command = [sys.executable, str(ROOT / "benchmarks" / script), *options]
        done = subprocess.run(command, check=False, timeout=PART_S)
        if done.returncode:
            raise SystemExit(f"{script} ended with {done.returncode}")
    print(f"\nall in {(time.monotonic() - begun) / 60:.1f} min")


if __name__ == "__main__":
    main()
