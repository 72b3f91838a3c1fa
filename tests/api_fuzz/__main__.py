"""Fuzz every operation of the shop's four services, from their OpenAPI documents.

    python -m tests.api_fuzz [--cases 20000] [--seed 1]

Exit code 1: an answer was 5xx, late, not as the document says, told too much, or let a wrong
request pass.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from pathlib import Path

from tests.api_fuzz.corpus import send_corpus
from tests.api_fuzz.fuzz import Fuzz
from tests.support.running import RunningMesh

SHOWN = 100


def _told(count: int) -> None:
    if count % SHOWN == 0:
        print(f"\r{count} requests", end="", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mesh-api-") as name:
        mesh = RunningMesh(Path(name)).up()
        try:
            count, wrong = send_corpus(mesh)
            fuzz = Fuzz(mesh, options.seed)
            with contextlib.suppress(KeyboardInterrupt):  # what was found by then is told
                fuzz.run(options.cases, _told)
            found = fuzz.outcome
        finally:
            mesh.down()
    labels = sorted({label for label, _ in found.answered})
    for label in labels:
        shown = "  ".join(
            f"{kind} {number}"
            for (each, kind), number in sorted(found.answered.items())
            if each == label
        )
        print(f"{label:<26} {shown}")
    print(
        f"\n{found.cases} requests ({found.negative} of them wrong ones) to {len(labels)} operations,"
        f" {len(found.reached)} of which answered 2xx; {count} of the JSON corpus; slowest"
        f" {found.slowest_s:.2f} s; {time.monotonic() - begun:.0f} s"
    )
    for each in (*wrong, *found.wrong):
        print(f"WRONG: {each}")
    return int(bool(wrong or found.wrong))


if __name__ == "__main__":
    sys.exit(main())
