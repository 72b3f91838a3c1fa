"""Accidents at random, seeded: whatever is killed and whenever, the mesh is whole again.

Run longer from the command line: `python -m tests.orchestrator.test_kill_loop SEED COUNT`.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path
from time import sleep

import pytest

from mesh.config import RestartPolicy
from tests.orchestrator.harness import Mesh, eventually, program

pytestmark = pytest.mark.e2e

ALWAYS = RestartPolicy("always")
PROGRAMS = (
    program("serves", "serve", port=0, restart=ALWAYS),
    program("has-a-child", "parent", restart=ALWAYS),
    program("stubborn", "stubborn", restart=ALWAYS, stop_grace_s=0.05),
    program("beats", "beat", restart=ALWAYS),
)
PROCESSES = 1 + 1 + len(PROGRAMS) + 2
"""Supervisor, starter, programs, and the children that two of them have."""


def starter_of(running):
    """The supervisor's child that is no program; a program that waits to begin looks like one."""
    pids = {row["pid"] for row in running.remote.status()["services"]}
    folder = Path(f"/proc/{running.process.pid}/task/{running.process.pid}")
    others = {int(pid) for pid in (folder / "children").read_text().split()} - pids
    return [pid for pid in others if b"starter.py" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def accident(running, chance):
    """One of the things that happen; returns which."""
    name = chance.choice(PROGRAMS).name
    kind = chance.choices(
        ["program", "starter", "restart", "stop and start", "kill by request"], [5, 1, 1, 2, 1]
    )[0]
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        if kind == "program":
            if pid := running.pid(name):
                os.kill(pid, signal.SIGKILL)
        elif kind == "starter":
            for pid in starter_of(running):
                os.kill(pid, signal.SIGKILL)
        elif kind == "restart":
            running.remote.restart([name])
        elif kind == "stop and start":
            running.remote.stop([name])
            running.remote.start([name])
        else:
            running.remote.kill([name], "KILL")
    return kind


def run(directory, seed, count):
    chance = random.Random(seed)
    running = Mesh(directory, PROGRAMS).up()
    happened = Counter()
    try:
        for _ in range(count):
            happened[accident(running, chance)] += 1
            sleep(chance.uniform(0.0, 0.1))  # accidents have their own time
        running.wait_for(lambda states: set(states.values()) == {"ready"})
        assert running.get("serves") == str(running.pid("serves"))
        eventually(lambda: len(running.family()) == PROCESSES)
    finally:
        running.crash()
        eventually(lambda: not running.family())
        running.close()
        running.tidy()
    return happened


def test_mesh_is_whole_again_after_any_accident(tmp_path):
    happened = run(tmp_path, 1, 50)
    assert len(happened) == 5


def test_nothing_survives_a_supervisor_killed_at_any_moment_of_its_start(tmp_path):
    chance = random.Random(2)
    for _ in range(15):
        running = Mesh(tmp_path, PROGRAMS).begin()
        sleep(chance.uniform(0.0, 0.4))  # a random moment, start-up included
        running.crash()
        eventually(lambda running=running: not running.family())
    running = Mesh(tmp_path, PROGRAMS).up()
    assert set(running.states().values()) == {"ready"}
    running.remote.down(0.1)
    running.close()


def dawdling(running):
    """Whether some process of this mesh is amid the import of `dawdle`."""
    for pid in running.family():
        with contextlib.suppress(OSError):
            for entry in Path(f"/proc/{pid}/fd").iterdir():
                if entry.readlink().name == "dawdle.py":
                    return True
    return False


def test_nothing_survives_a_supervisor_killed_amid_the_imports_of_its_starter(tmp_path):
    preload = ["tests.orchestrator.programs.dawdle"]
    running = Mesh(tmp_path, PROGRAMS, preload=preload).begin()
    eventually(lambda: dawdling(running))
    running.crash()
    eventually(lambda: not running.family())
    running.close()
    running.tidy()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        print(dict(run(Path(folder), int(sys.argv[1]), int(sys.argv[2]))))
