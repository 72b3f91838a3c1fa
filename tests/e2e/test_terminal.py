"""In a terminal: Ctrl-C ends the shop with exit 0 and leaves nothing behind."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.support.running import RunningMesh, eventually, gone

if TYPE_CHECKING:
    from pathlib import Path


class Terminal:
    """`mesh up` with a terminal of its own."""

    def __init__(self, directory: Path) -> None:
        ours, theirs = pty.openpty()
        self.screen = b""
        self._fd = ours
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mesh", "up"],
            cwd=directory,
            env={**os.environ, "MESH_FREE_PORTS": "1", "TERM": "xterm"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509  no threads
        )
        os.close(theirs)

    def read_until(self, pattern: bytes, within_s: float = 20.0) -> None:
        """Read what is printed until `pattern` is in it."""
        deadline_s = time.monotonic() + within_s
        while not re.search(pattern, self.screen):
            left_s = deadline_s - time.monotonic()
            assert left_s > 0, self.screen[-4000:].decode(errors="replace")
            if select.select([self._fd], [], [], left_s)[0]:
                try:
                    self.screen += os.read(self._fd, 65536)
                except OSError:  # the last one who had it open is gone
                    assert re.search(pattern, self.screen), self.screen[-4000:].decode("utf-8")

    def read_until_quiet(self, for_s: float = 0.5) -> None:
        """Read what is printed until nothing has been for a while."""
        while select.select([self._fd], [], [], for_s)[0]:
            self.screen += os.read(self._fd, 65536)

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self._fd, keys)

    def hang_up(self) -> None:
        """Close the terminal's window."""
        os.close(self._fd)


def _pids(mesh: RunningMesh) -> list[int]:
    supervisor = psutil.Process(mesh.supervisor())
    return [supervisor.pid, *(child.pid for child in supervisor.children(recursive=True))]


@pytest.mark.parametrize("end", ["ctrl-c", "hang-up", "terminate"])
def test_up_in_a_terminal_stops_gracefully_and_leaves_nothing(tmp_path: Path, end: str):
    terminal = Terminal(tmp_path)
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
    eventually(lambda: all(gone(pid) for pid in pids), within_s=1.0)
    assert not runtime.exists()
    assert not (tmp_path / "data" / "run" / "mesh.json").exists()
    mesh.up().down()
