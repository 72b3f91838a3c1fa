"""Explore the shipped protocol and its mutants, and print what was found.

    python -m tests.model [--events 4] [--states 5000000] [--no-mutants]

Exit code 1: a violation, or a mutant that went unnoticed.
"""

from __future__ import annotations

import argparse
import sys

from tests.model.mutants import MUTANTS
from tests.model.scopes import SCOPES, explore, explore_mutant


def _told(depth: int, states: int, width: int, seconds: float) -> None:
    print(f"\r  depth {depth:3}  {states:10,} states  {width:9,} at the edge  {seconds:6.0f} s",
          end="", file=sys.stderr, flush=True)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=4)
    parser.add_argument("--states", type=int, default=5_000_000, help="stop a scope there")
    parser.add_argument("--no-mutants", action="store_true")
    options = parser.parse_args()
    failed, total = 0, 0
    for scope in SCOPES:
        found = explore(scope, options.events, states_max=options.states, told=_told)
        total += found.states
        failed += bool(found.violation)
        verdict = found.violation or ("no violation" if found.complete else "stopped, no violation")
        print(
            f"\r{scope.title:38} {options.events - scope.less} events {found.states:10,} states"
            f"  depth {found.depth:3}  {found.seconds:6.1f} s  {verdict}"
        )
        for number, step in enumerate(found.trace, 1):
            print(f"    {number:2}  {step}")
    print(f"{total:,} states in all, {failed} violations")
    if options.no_mutants:
        return int(failed > 0)
    caught = 0
    for mutant in MUTANTS:
        found = explore_mutant(mutant)
        caught += bool(found.violation)
        print(
            f"{mutant.name:43} {found.states:8,} states  {len(found.trace):3} steps"
            f"  {found.seconds:5.1f} s  {found.violation or 'NOT NOTICED'}"
        )
    print(f"{caught} of {len(MUTANTS)} mutants caught")
    return int(failed > 0 or caught < len(MUTANTS))


if __name__ == "__main__":
    sys.exit(main())
