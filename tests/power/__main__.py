"""Cut the power of a recorded run, again and again, and look at what is left.

    python -m tests.power [--cuts 3000] [--seed 1]

Exit code 1: something acknowledged was lost, or a file was corrupt.
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.power.cuts import cut_power
from tests.power.recorder import why_not

SHOWN = 50


def _told(cuts: int, wrong: int) -> None:
    if cuts % SHOWN == 0:
        print(f"\r{cuts} cuts, {wrong} wrong", end="", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cuts", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if reason := why_not():
        print(f"skipped: {reason}")
        return 0
    begun = time.monotonic()
    found = cut_power(options.cuts, options.seed, _told)
    print("\r" + "\n".join([*found.wrong[:20], ""]), end="")
    lost = sum("lost" in each for each in found.wrong)
    print(
        f"{found.cuts} cuts at {found.points} acknowledgements and between them, three databases:"
        f" {lost} lost something acknowledged, {len(found.wrong) - lost} wrong otherwise,"
        f" {found.fallen} took back what was delayed;"
        f" {time.monotonic() - begun:.0f} s"
    )
    return int(bool(found.wrong))


if __name__ == "__main__":
    sys.exit(main())
