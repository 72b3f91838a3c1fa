"""Shoot harmed messages at each endpoint of a real bus that serves real programs meanwhile.

    python -m tests.fuzz [--frames 100000] [--seed 1]

Exit code 1: the bus died, its log changed, it grew, or did not count.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.attack import attack
from tests.fuzz.verdict import wrong

SHOWN = 1000


def _told(count: int) -> None:
    if count % SHOWN == 0:
        print(f"\r{count} at each endpoint", end="", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=100_000, help="at each endpoint")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mesh-fuzz-") as name:
        found = asyncio.run(attack(Path(name), options.frames, options.seed, _told))
    print(
        f"\r{found.sent} messages at three endpoints: {found.counted} dropped and counted,"
        f" {found.told} events told meanwhile and {found.applied} applied, memory"
        f" {found.grown_bytes / 2**20:+.1f} MiB, log {'un' if found.log_is_outbox else ''}changed,"
        f" exit {found.exit_code}; {time.monotonic() - begun:.0f} s"
    )
    for each in wrong(found):
        print(f"WRONG: {each}")
    return int(bool(wrong(found)))


if __name__ == "__main__":
    sys.exit(main())
