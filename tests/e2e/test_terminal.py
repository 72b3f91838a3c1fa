"""In a terminal: Ctrl-C ends the shop with exit 0 and leaves nothing behind."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest

from tests.support.running import RunningMesh, eventually, gone
from tests.support.terminal import Terminal

FOREGROUND = Path(__file__).parents[2] / ".ci" / "foreground"


def _pids(mesh: RunningMesh) -> list[int]:
    supervisor = psutil.Process(mesh.supervisor())
    return [supervisor.pid, *(child.pid for child in supervisor.children(recursive=True))]


WAITS = "import subprocess, sys, signal; signal.signal(signal.SIGHUP, lambda *_: None); "
"""Leads the terminal's session as make does: told that it has closed, it waits for what it runs."""


@pytest.mark.parametrize("more", [[], ["--plain"]], ids=["dashboard", "lines"])
def test_closed_terminal_ends_a_mesh_whose_leader_waits_for_it(tmp_path: Path, more: list[str]):
    run = f"sys.exit(subprocess.call([{str(FOREGROUND)!r}, sys.executable, *sys.argv[1:]]))"
    terminal = Terminal(tmp_path, "up", *more, before=["-c", WAITS + run])
    terminal.read_until(rb"5 services ready")
    pids = _pids(RunningMesh(tmp_path))
    try:
        terminal.hang_up()
        assert terminal.process.wait(60) == 0
        eventually(lambda: all(gone(pid) for pid in pids), within_s=60)
    finally:
        if not gone(pids[0]):
            os.kill(pids[0], signal.SIGKILL)


@pytest.mark.parametrize("end", ["ctrl-c", "hang-up", "terminate"])
def test_up_in_a_terminal_stops_gracefully_and_leaves_nothing(tmp_path: Path, end: str):
    terminal = Terminal(tmp_path, "up")
    terminal.read_until(rb"5 services ready")
    mesh = RunningMesh(tmp_path)
    pids = _pids(mesh)
    runtime = mesh.runtime_directory()
    if end == "ctrl-c":
        os.killpg(terminal.process.pid, signal.SIGINT)
        terminal.read_until(rb"bus +graceful")
    elif end == "terminate":
        terminal.process.terminate()
        terminal.read_until(rb"bus +graceful")
    else:
        terminal.hang_up()
    status = terminal.process.wait(60)
    assert status == 0
    eventually(lambda: all(gone(pid) for pid in pids), within_s=60)
    assert not runtime.exists()
    assert not (tmp_path / "data" / "run" / "mesh.json").exists()
    mesh.up().down()
