"""The bus under fire: a steady stream of events while bus, log, consumer and feed are broken.

`python -m tests.e2e.fire` runs it at full scale and prints the figures; the test runs a part.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import random
import shutil
import signal
import sqlite3
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import yaml

from tests.support.machine import Machine
from tests.support.running import USUAL, RunningMesh, eventually

HERE = Path(__file__).parent / "myfire"
STEP_S = 0.05
BETWEEN_S = 0.4
"""Between two faults, so that each meets a system at work."""

BAD_WAYS = ("drop", "dup", "reorder")
"""What happens to the feed of the hearer, one after another."""

STILL_S = 2.0
"""What recovery may take beside working off the backlog."""


@dataclass(frozen=True)
class Scale:
    """What is done to it, and how long the consumer is away or its feed a bad way."""

    per_s: int = 500
    kills: int = 20
    deletions: int = 2
    stopped_s: float = 10.0
    dropped_s: float = 10.0
    seed: int = 1


@dataclass
class Figures:
    """How it went. `settled_s` is from the last event told to the last one applied, without
    the time in which the machine stood still."""

    told: int = 0
    lost: int = 0
    twice: int = 0
    kills: int = 0
    deletions: int = 0
    refused: int = 0
    backlog: int = 0
    settled_s: float = 0.0
    per_s: float = 0.0
    in_log: int = 0
    log_gaps: int = 0
    notes: list[str] = field(default_factory=list)


def mesh_of(directory: Path) -> RunningMesh:
    """One teller, one hearer, a bus; not started."""
    shutil.copytree(HERE, directory / "myfire")
    services = {
        name: {"module": f"myfire.{name}", "restart": "always"} for name in ("teller", "hearer")
    }
    config = {"name": "fire", "bus": "zmq://", "services": services}
    (directory / "mesh.yaml").write_text(yaml.safe_dump(config), "utf-8")
    return RunningMesh(directory, environment=USUAL)


class Load:
    """Asks the teller to tell up to where time has come, over and over; skips nothing."""

    def __init__(self, mesh: RunningMesh, per_s: int) -> None:
        self._mesh = mesh
        self._per_s = per_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.told = self.refused = 0

    def __enter__(self) -> Self:
        self.begun_s = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self.ended_s = time.monotonic()

    def _run(self) -> None:
        while not self._ended.wait(STEP_S):
            upto = int((time.monotonic() - self.begun_s) * self._per_s)
            try:
                answer = self._mesh.ask("teller", "POST", "/told", {"n": upto})
            except (OSError, http.client.HTTPException):
                self.refused += 1
                continue
            if answer.status == 200:
                self.told = answer.body["n"]
            else:
                self.refused += 1


def delete_log(mesh: RunningMesh) -> None:
    """Remove the bus's log under its feet, and kill it: the next life finds nothing."""
    for file in (mesh.directory / "data" / "bus").glob("bus.db*"):
        file.unlink(missing_ok=True)


def kill_bus(mesh: RunningMesh) -> bool:
    """Whether there was one to kill."""
    pid = mesh.services()["bus"]["pid"]
    if pid is None:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return True


def run(mesh: RunningMesh, scale: Scale) -> Figures:
    """Fire, then wait until everything is applied, and count."""
    found = Figures()
    with Machine(mesh.directory) as machine:
        load = _fired(mesh, scale, found)
        found.told, found.refused = load.told, load.refused
        found.per_s = round(load.told / (load.ended_s - load.begun_s), 1)
        found.backlog = load.told - _last(mesh)
        eventually(lambda: _last(mesh) >= load.told, within_s=60)
        found.settled_s = round(machine.since_s(load.ended_s), 2)
    mesh.run("wait", "--for", "idle", "--timeout", "60")
    mesh.down()
    _look_at_effects(mesh, found)
    _look_at_log(mesh, found)
    return found


def _fired(mesh: RunningMesh, scale: Scale, found: Figures) -> Load:
    """All faults, one after another, under load."""
    chance = random.Random(scale.seed)
    faults = ["kill"] * scale.kills + ["delete"] * scale.deletions + ["stop", *BAD_WAYS]
    chance.shuffle(faults)
    with Load(mesh, scale.per_s) as load:
        time.sleep(1.0)
        for fault in faults:
            if fault == "kill":
                found.kills += eventually(lambda: kill_bus(mesh), within_s=60)
            elif fault == "delete":
                delete_log(mesh)
                found.deletions += eventually(lambda: kill_bus(mesh), within_s=60)
            elif fault == "stop":
                mesh.run("stop", "hearer")
                time.sleep(scale.stopped_s)
                mesh.run("start", "hearer")
            else:
                mesh.run("chaos", fault, "hearer", "--for", str(scale.dropped_s))
                time.sleep(scale.dropped_s)
            time.sleep(chance.uniform(BETWEEN_S / 2, BETWEEN_S * 2))
        mesh.run("wait", "bus", "hearer", "--timeout", "30")
    return load


def _last(mesh: RunningMesh) -> int:
    try:
        return int(mesh.ask("hearer", "GET", "/last").body["greatest"])
    except (OSError, http.client.HTTPException):
        return 0


def _look_at_effects(mesh: RunningMesh, found: Figures) -> None:
    """Every number has had its effect, once."""
    with contextlib.closing(sqlite3.connect(mesh.directory / "data/hearer/hearer.db")) as own:
        heard = dict(own.execute("SELECT n, times FROM heard"))
    found.lost = len(set(range(1, found.told + 1)) - heard.keys())
    found.twice = sum(times > 1 for times in heard.values())


def _look_at_log(mesh: RunningMesh, found: Figures) -> None:
    """The rebuilt log against the teller's own outbox, byte by byte."""
    columns = "seq, epoch, prev_epoch, prev_hash, hash, id, type, key, ts_ms, trace, body"
    with contextlib.closing(sqlite3.connect(mesh.directory / "data/bus/bus.db")) as log:
        copied = log.execute(
            f"SELECT {columns} FROM log WHERE stream = 'teller' ORDER BY seq"
        ).fetchall()
    with contextlib.closing(sqlite3.connect(mesh.directory / "data/teller/teller.db")) as own:
        told = own.execute(f"SELECT {columns} FROM outbox ORDER BY seq").fetchall()
    found.in_log = len(copied)
    found.log_gaps = sum(row[0] != n for n, row in enumerate(copied, 1))
    if copied != told:
        found.notes.append("the log is not the outbox")


def main() -> None:
    """Run at full scale, or as told."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in vars(Scale()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    scale = Scale(**vars(parser.parse_args()))
    with tempfile.TemporaryDirectory() as directory:
        mesh = mesh_of(Path(directory)).up()
        try:
            found = run(mesh, scale)
        finally:
            mesh.down()
    for name, value in vars(found).items():
        print(f"{name:>12}  {value}")


if __name__ == "__main__":
    main()
