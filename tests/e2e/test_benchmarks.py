"""Each benchmark still runs: with so little to do that its figures mean nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

LEAST = {
    "bus.py": (
        ("--only", "ours", "--events", "2000", "--seconds", "0.3", "--runs", "1"),
        {"events/s ours", "event p50 ms ours"},
    ),
    "database.py": (
        ("--rounds", "1", "--seconds", "0.02"),
        {"transactions/s ours 64", "transactions/s bare 1", "read us sqlite3"},
    ),
    "growth.py": (("--orders", "1000"), set()),
    "orders.py": (
        ("--only", "ours,byhand", "--rounds", "1", "--seconds", "0.3"),
        {"orders/s ours 64", "orders/s byhand 64", "p50 ours 1", "p99 byhand 1"},
    ),
    "tracing.py": (("--pairs", "1"), {"traced CPU", "untraced CPU"}),
}


@pytest.mark.parametrize("script", LEAST)
def test_benchmark_runs_and_notes_its_figures(script: str, tmp_path: Path):
    options, names = LEAST[script]
    file = tmp_path / "figures"
    file.touch()
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / script), *options],
        env={**os.environ, "BENCH_FIGURES": str(file)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    noted = dict(map(json.loads, file.read_text("utf-8").splitlines()))
    assert names <= set(noted)
    assert all(value > 0 for name in names for value in noted[name])
