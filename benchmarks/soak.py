"""Does anything grow? Memory, descriptors and files of every process while the shop is used.

`mesh exercise` loads the shop all the while and judges it at the end; each process is looked at
every ten seconds. A slope is fitted by least squares to what comes after the warm-up; its 95 %
interval is widened by how much neighbouring samples resemble one another. SQLite's page caches
grow with their files up to a bound (two of 16 MiB for the bus's log), which a run of minutes sees as
a slope.

    python benchmarks/soak.py --minutes 240 --rate 20
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.support.running import RunningMesh  # noqa: E402  after the path

SAMPLE_S = 10.0
WARM_SHARE = 0.25
"""Of the run: caches fill, pools grow to their size, SQLite takes its pages."""

PATIENCE_S = 600.0
MIB = 2**20

Samples = dict[tuple[str, str], list[tuple[float, float]]]
"""(process or database, what) → (seconds, value)."""


def slope(points: list[tuple[float, float]]) -> tuple[float, float]:
    """By hour, and half of its 95 % interval."""
    count = len(points)
    if count < 4:
        return 0.0, math.inf
    mean_t = statistics.fmean(t for t, _ in points)
    mean_v = statistics.fmean(v for _, v in points)
    spread = sum((t - mean_t) ** 2 for t, _ in points)
    by_s = sum((t - mean_t) * (v - mean_v) for t, v in points) / spread
    left = [v - mean_v - by_s * (t - mean_t) for t, v in points]
    power = sum(each**2 for each in left)
    alike = sum(a * b for a, b in itertools.pairwise(left)) / power if power else 0.0
    alike = max(0.0, min(alike, 0.95))
    independent = max(3.0, count * (1 - alike) / (1 + alike))
    error = math.sqrt(power / (independent - 2) / spread)
    return by_s * 3600, 2 * error * 3600


def processes(mesh: RunningMesh) -> dict[str, int]:
    """Pids by name."""
    found = {name: row["pid"] for name, row in mesh.services().items() if row["pid"]}
    supervisor = mesh.supervisor()
    others = {child.pid for child in psutil.Process(supervisor).children()} - {*found.values()}
    found["supervisor"] = supervisor
    if others:
        found["starter"] = min(others)
    return found


def sample(pids: dict[str, int], data: Path, at_s: float, into: Samples) -> None:
    def note(who: str, what: str, value: float) -> None:
        into.setdefault((who, what), []).append((at_s, value))

    for name, pid in pids.items():
        try:
            process = psutil.Process(pid)
            note(name, "rss MiB", process.memory_info().rss / MIB)
            note(name, "fds", process.num_fds())
        except psutil.NoSuchProcess:
            note(name, "gone", 1.0)
    for wal in data.glob("*/*.db-wal"):
        note(wal.name.partition(".")[0], "wal MiB", wal.stat().st_size / MIB)
    for file in data.glob("*/*.db"):
        note(file.stem, "db MiB", file.stat().st_size / MIB)


def table(found: Samples, warm_s: float) -> list[str]:
    lines = [
        f"{'':12}{'':9}{'after warm-up':>14}{'at the end':>12}{'most':>9}   slope by hour (95 %)"
    ]
    for (who, what), points in sorted(found.items()):
        late = [point for point in points if point[0] >= warm_s] or points
        by_h, half = slope(late)
        lines.append(
            f"{who:12}{what:9}{late[0][1]:14.2f}{late[-1][1]:12.2f}{max(v for _, v in points):9.2f}"
            f"   {by_h:+9.3f} ± {half:.3f}"
        )
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=240.0)
    parser.add_argument("--rate", type=float, default=20.0, help="visitors/s, three requests each")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="mesh-soak-"))
    mesh, length_s = RunningMesh(folder), 60 * args.minutes
    print(f"{folder}  {args}", flush=True)
    mesh.up()
    found: Samples = {}
    loads = []
    try:
        pids, begun_s = processes(mesh), time.monotonic()
        load = mesh.start(
            *("exercise", "--rate", f"{args.rate:g}", "--duration", f"{length_s:g}"),
            *("--seed", str(args.seed), "--json"),
        )
        said: list[tuple[str, str]] = []
        hearer = threading.Thread(target=lambda: said.append(load.communicate()), daemon=True)
        hearer.start()
        while load.poll() is None and time.monotonic() - begun_s < length_s:
            sample(pids, folder / "data", time.monotonic() - begun_s, found)
            loads.append(os.getloadavg()[0])
            if len(loads) % 30 == 0:
                memory = sum(points[-1][1] for (_, what), points in found.items() if what[0] == "r")
                print(f"{time.monotonic() - begun_s:6.0f} s  rss {memory:.1f} MiB", flush=True)
            time.sleep(SAMPLE_S)
        hearer.join(PATIENCE_S)
        if not said:
            load.kill()
            hearer.join()
        ((out, err),) = said
        restarts = sum(row["restarts"] for row in mesh.services().values())
    finally:
        mesh.down()
    lines = out.splitlines()
    told = json.loads(lines[-1]) if lines else {"ok": False, "why": err[-2000:]}
    print("\n".join(table(found, WARM_SHARE * length_s)))
    print(
        f"{len(loads)} samples, load of the machine {statistics.fmean(loads):.1f} on average;"
        f" restarts {restarts}; the first {WARM_SHARE:.0%} of the time is not fitted"
    )
    print(
        f"{told.get('completed')} requests answered, failed {told.get('failed')}, unknown"
        f" {told.get('unknown')}; {told['operations']['order.create']['ok'] if lines else 0} orders;"
        f" verdict {'ok' if told['ok'] else 'WRONG: ' + err[-500:]}"
    )
    if told["ok"]:
        shutil.rmtree(folder)
    return 0 if told["ok"] else 7


if __name__ == "__main__":
    sys.exit(main())
