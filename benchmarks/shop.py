"""The shop as a whole: time to ready, memory before and after a load, recovery."""

from __future__ import annotations

import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "benchmarks"))

import figures  # noqa: E402  after the path
from orders import contender, trial  # noqa: E402  likewise

from tests.support.running import RunningMesh, tough_shop  # noqa: E402  likewise

LOAD_CLIENTS = 64
LOAD_S = 15.0

STEADY_S = 10.5
"""A program that was ready this long is started again at once; before, backoff is measured too."""


def wall_ms(mesh: RunningMesh, *args: str, times: int = 11) -> list[float]:
    """Wall time of a whole command, milliseconds."""
    found = []
    for _ in range(times):
        begun = time.perf_counter()
        mesh.run(*args)
        found.append((time.perf_counter() - begun) * 1e3)
    return found


def show(what: str, values: list[float], unit: str) -> None:
    figures.note(what, values)
    print(
        f"{what:44} {statistics.median(values):10.1f} {unit}   (min {min(values):.1f},"
        f" max {max(values):.1f}, n {len(values)})",
        flush=True,
    )


def pss_mib(pids: list[int]) -> float:
    return sum(psutil.Process(pid).memory_full_info().pss for pid in pids) / 2**20


def family(mesh: RunningMesh) -> list[int]:
    supervisor = psutil.Process(mesh.supervisor())
    return [supervisor.pid, *(child.pid for child in supervisor.children(recursive=True))]


def recover_ms(mesh: RunningMesh) -> float:
    """From kill -9 of order to its next answer of /readyz."""
    time.sleep(STEADY_S)
    pid = int(mesh.services()["order"]["pid"])
    begun = time.perf_counter()
    os.kill(pid, signal.SIGKILL)
    mesh.ask("order", "GET", "/livez")  # waits in the listener's backlog for the successor
    taken = (time.perf_counter() - begun) * 1e3
    mesh.run("wait", "order")
    return taken


def main() -> None:
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    print(f"commit {commit}")
    ready, down = [], []
    for _ in range(7):
        with tempfile.TemporaryDirectory() as folder:
            mesh = RunningMesh(Path(folder))
            begun = time.perf_counter()
            mesh.up()
            ready.append((time.perf_counter() - begun) * 1e3)
            begun = time.perf_counter()
            mesh.down()
            down.append((time.perf_counter() - begun) * 1e3)
    show("mesh up -d to ready, fresh data, whole command", ready, "ms")
    show("mesh down, whole command", down, "ms")
    with tempfile.TemporaryDirectory() as folder:
        mesh = tough_shop(Path(folder)).up()
        try:
            show("mesh ps", wall_ms(mesh, "ps"), "ms")
            show("mesh --help", wall_ms(mesh, "--help"), "ms")
            show("mesh call order create", wall_ms(mesh, "call", "order", "create"), "ms")
            show("memory of the whole mesh (PSS)", [pss_mib(family(mesh))], "MiB")
            trial(contender(mesh), LOAD_CLIENTS, LOAD_S)
            show("memory after the load (PSS)", [pss_mib(family(mesh))], "MiB")
            mesh.idle()
            show(
                "kill -9 of a steady order to its next answer",
                [recover_ms(mesh) for _ in range(5)],
                "ms",
            )
        finally:
            mesh.down()


if __name__ == "__main__":
    main()
