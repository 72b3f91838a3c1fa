"""Run seeds of the simulation, as many processes as there are cores.

    python -m tests.simulation [--seeds 1000] [--from 0] [--seed N]

Exit code 1: a seed failed; the command that replays it is printed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time

from tests.simulation.world import simulate

CHUNK = 5


def _run(seed: int) -> tuple[int, list[str]]:
    return seed, simulate(seed)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--from", dest="first", type=int, default=0)
    parser.add_argument("--seed", type=int, help="this one, with its story")
    options = parser.parse_args()
    if options.seed is not None:
        story = simulate(options.seed)
        print("\n".join(story))
        return int(story[-1].startswith("WRONG"))
    begun, failed = time.monotonic(), 0
    with multiprocessing.Pool(os.cpu_count()) as pool:
        seeds = range(options.first, options.first + options.seeds)
        for done, (seed, story) in enumerate(pool.imap_unordered(_run, seeds, CHUNK), 1):
            if story[-1].startswith("WRONG"):
                failed += 1
                print(f"\nseed {seed}: {story[-1]}\n  replay: make simulate SEED={seed}")
            if done % CHUNK == 0:
                rate = done / (time.monotonic() - begun)
                print(f"\r{done}/{options.seeds} seeds, {rate:.1f}/s", end="", file=sys.stderr)
    seconds = time.monotonic() - begun
    print(f"\r{options.seeds} seeds in {seconds:.0f} s, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
