"""In a terminal: Ctrl-C ends the shop with exit 0 and leaves nothing behind."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.support.running import RunningMesh, eventually, gone
from tests.support.terminal import Terminal

if TYPE_CHECKING:
    from pathlib import Path


def _pids(mesh: RunningMesh) -> list[int]:
    supervisor = psutil.Process(mesh.supervisor())
    return [supervisor.pid, *(child.pid for child in supervisor.children(recursive=True))]


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
    status = terminal.process.wait(15)
    assert status == 0
    eventually(lambda: all(gone(pid) for pid in pids), within_s=10)
    assert not runtime.exists()
    assert not (tmp_path / "data" / "run" / "mesh.json").exists()
    mesh.up().down()
