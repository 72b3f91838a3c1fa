"""A starter executed: the first thing a mesh does, while everything else is still being read.

Its imports take most of the time until a mesh is ready, and need nothing of the configuration.
Standard library only, and little of it.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mesh.orchestrator import starter

if TYPE_CHECKING:
    from collections.abc import Sequence


class Ignited(NamedTuple):
    """A starter that has begun to import `preload`, and our end of the line to it."""

    process: subprocess.Popen[bytes]
    line: socket.socket
    preload: tuple[str, ...]

    def quench(self) -> None:
        """End it, unless that has been done: whoever has used it did so in better order."""
        self.process.kill()
        self.process.wait()
        self.line.close()


def ignite(preload: Sequence[str]) -> Ignited:
    """Execute a starter, with this interpreter's import path, in a session of its own.

    It keeps none of our descriptors, so that whoever reads our output is not kept waiting; the
    launcher hands it an output later.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(0)
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    with theirs:
        process = subprocess.Popen(  # noqa: S603  # our own file, by this interpreter
            [
                *(sys.executable, "-P", "-u", starter.__file__),
                *(str(theirs.fileno()), path, *preload),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
    return Ignited(process, ours, tuple(preload))
