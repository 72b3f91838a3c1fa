"""An open dashboard while very much goes by: what it costs, and that it does not grow.

`python -m tests.e2e.test_dash_soak [EVENTS LINES]` runs it at full scale and prints the figures;
the test runs a part. Costs are CPU time of the dashboard's process, so that a crowded machine
counts for little.
"""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

import psutil
import yaml

from tests.e2e.fire import mesh_of

if TYPE_CHECKING:
    from tests.support.running import RunningMesh

STEP_S = 0.05
EVENTS_A_CALL = 500
"""What the teller takes at once."""

MEMORY_MIB_MAX = 80
IDLE_PERCENT_MAX, BUSY_PERCENT_MAX = 3.0, 10.0
BUSY_PER_S = 500

CHATTER = """
import json, pathlib, time
target, said, written = pathlib.Path("lines"), pathlib.Path("said"), 0
while True:
    upto = int(target.read_text() or 0) if target.exists() else 0
    for written in range(written + 1, min(upto, written + 5000) + 1):
        print(json.dumps({"level": "info", "message": "said", "number": written}), flush=False)
    print(end="", flush=True)
    said.write_text(str(written))
    time.sleep(0.05)
"""


@dataclass
class Figures:
    """What it took. Memory in MiB at even steps of the flood; shares of one core in percent."""

    idle_percent: float = 0.0
    busy_percent: float = 0.0
    busy_per_s: float = 0.0
    events: int = 0
    lines: int = 0
    flood_s: float = 0.0
    flood_percent: float = 0.0
    written_bytes: int = 0
    memory_mib: list[float] = field(default_factory=list)

    @property
    def growth_mib(self) -> float:
        """From the middle of the flood to its end."""
        half = self.memory_mib[len(self.memory_mib) // 2 :]
        return max(half) - half[0]


class Open:
    """`mesh dash` in a terminal of its own that somebody reads."""

    def __init__(self, mesh: RunningMesh) -> None:
        ours, theirs = pty.openpty()
        subprocess.run(["stty", "rows", "36", "cols", "120"], stdin=theirs, check=True)
        self.written = 0
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mesh", "dash"],
            cwd=mesh.directory,
            env={**os.environ, "TERM": "xterm-256color", "PYTHONUTF8": "1"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self._terminal = ours
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()
        self._watched = psutil.Process(self.process.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(10)
        self._reading.join(10)
        os.close(self._terminal)

    def _read(self) -> None:
        try:
            while got := os.read(self._terminal, 65536):
                self.written += len(got)
        except OSError:
            return

    def cpu_s(self) -> float:
        """User and system time so far."""
        times = self._watched.cpu_times()
        return times.user + times.system

    def memory_mib(self) -> float:
        """Resident now."""
        return self._watched.memory_info().rss / 2**20


class Goings:
    """Events told and lines written, each up to a number that grows."""

    def __init__(self, mesh: RunningMesh) -> None:
        self._mesh = mesh
        self._lines = mesh.directory / "lines"
        self.told = self.lines = 0

    def tell(self, upto: int) -> None:
        """Tell events up to there, as many at once as the teller takes."""
        while self.told < upto:
            answer = self._mesh.ask("teller", "POST", "/told", {"n": upto})
            assert answer.status == 200, answer
            self.told = answer.body["n"]

    def say(self, upto: int) -> None:
        """Have lines written up to there."""
        self.lines = upto
        new = self._lines.with_suffix(".new")
        new.write_text(str(upto))
        new.replace(self._lines)

    def said(self) -> int:
        """How many lines there are."""
        file = self._mesh.directory / "said"
        return int(file.read_text() or 0) if file.exists() else 0


def soaked(directory: Path) -> RunningMesh:
    """A teller, a hearer, a bus, and somebody who talks; not started."""
    mesh = mesh_of(directory)
    file = directory / "mesh.yaml"
    config = yaml.safe_load(file.read_text("utf-8"))
    command = [sys.executable, "-c", CHATTER]
    health = {"test": ["CMD", "true"], "interval": "60s"}
    config["services"]["chatter"] = {
        "command": command,
        "healthcheck": health,
        "sandbox": "off",  # it reads in a file of ours how much to say
    }
    file.write_text(yaml.safe_dump(config), "utf-8")
    return mesh


def soak(mesh: RunningMesh, events: int, lines: int, *, phase_s: float) -> Figures:
    """Idle, then busy, then flooded until all has gone by."""
    found, goings = Figures(), Goings(mesh)
    with Open(mesh) as watched:
        time.sleep(3.0)  # it reads what is there
        begun_s, cpu_s = time.monotonic(), watched.cpu_s()
        time.sleep(phase_s)
        found.idle_percent = 100 * (watched.cpu_s() - cpu_s) / (time.monotonic() - begun_s)

        begun_s, cpu_s = time.monotonic(), watched.cpu_s()
        while (passed_s := time.monotonic() - begun_s) < phase_s:
            goings.tell(int(passed_s * BUSY_PER_S))
            time.sleep(STEP_S)
        passed_s = time.monotonic() - begun_s
        found.busy_percent = 100 * (watched.cpu_s() - cpu_s) / passed_s
        found.busy_per_s = goings.told / passed_s

        begun_s, cpu_s = time.monotonic(), watched.cpu_s()
        steps = 40
        for step in range(1, steps + 1):
            goings.say(lines * step // steps)
            goings.tell(events * step // steps)
            while goings.said() < goings.lines:
                time.sleep(STEP_S)
            found.memory_mib.append(watched.memory_mib())
        time.sleep(2.0)
        found.memory_mib.append(watched.memory_mib())
        found.flood_s = time.monotonic() - begun_s
        found.flood_percent = 100 * (watched.cpu_s() - cpu_s) / found.flood_s
        assert watched.process.poll() is None, "it is still there"
        found.events, found.lines = goings.told, goings.said()
        found.written_bytes = watched.written
    return found


def test_dashboard_does_not_grow_and_costs_little(tmp_path: Path):
    mesh = soaked(tmp_path).up()
    try:
        found = soak(mesh, 20_000, 50_000, phase_s=5.0)
    finally:
        mesh.down()
    print(found)
    assert (found.events, found.lines) == (20_000, 50_000)
    assert max(found.memory_mib) <= MEMORY_MIB_MAX
    assert found.idle_percent < IDLE_PERCENT_MAX
    assert found.busy_percent <= BUSY_PERCENT_MAX


def main() -> None:
    """Run it at full scale."""
    events, lines = (*map(int, sys.argv[1:]), 1_000_000, 1_000_000)[:2]
    with tempfile.TemporaryDirectory() as directory:
        mesh = soaked(Path(directory)).up()
        try:
            found = soak(mesh, events, lines, phase_s=15.0)
        finally:
            mesh.down()
    memory = found.memory_mib
    print(f"idle          {found.idle_percent:.1f} % of a core")
    print(f"busy          {found.busy_percent:.1f} % at {found.busy_per_s:.0f} events/s")
    print(
        f"flood         {found.events} events and {found.lines} lines in {found.flood_s:.0f} s,"
        f" {found.flood_percent:.0f} % of a core, {found.written_bytes} bytes drawn"
    )
    print(f"memory        {memory[0]:.1f} MiB at the start, {max(memory):.1f} at most")
    print(f"second half   +{found.growth_mib:.1f} MiB")


if __name__ == "__main__":
    main()
