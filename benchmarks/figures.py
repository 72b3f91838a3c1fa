"""What the benchmarks have measured, kept for the one table at the end of `bench.py`.

A script notes its figures under names; `bench.py` says where (BENCH_FIGURES), else nothing is kept.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path

WHERE = "BENCH_FIGURES"


def note(name: str, values: Sequence[float]) -> None:
    """Keep one figure of each round, in the order of the rounds."""
    where = os.environ.get(WHERE)
    if where:
        with Path(where).open("a", encoding="utf-8") as file:
            file.write(json.dumps([name, list(values)]) + "\n")


def noted(file: Path) -> dict[str, list[float]]:
    """Everything that has been noted there."""
    return dict(map(json.loads, file.read_text("utf-8").splitlines()))
