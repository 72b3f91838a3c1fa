"""Everything that belongs to one mesh, found from outside: its processes and its listening sockets.

Every process of a mesh inherits a mark in its environment, which the kernel keeps as it was when
the process was executed. So nobody has to be asked, and nobody can get out of sight: a process
that lost its parent, its session or its name is found like any other.
"""

from __future__ import annotations

import contextlib
import socket
import stat
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

MARK = "MESH_TEST_RUN"
"""The variable; its value is the mark of one mesh."""

_LISTENS = "0A"
"""TCP_LISTEN in /proc/net/tcp."""


def new_mark() -> dict[str, str]:
    """An environment that marks a mesh and whatever comes of it."""
    return {MARK: uuid.uuid4().hex}


def living(mark: str) -> set[int]:
    """Every process with this mark; a zombie has no environment any more and is left out."""
    wanted = f"{MARK}={mark}".encode()
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                found.add(int(folder.name))
    return found


def command_line(pid: int) -> str:
    """What it was executed as, for a person; "" when it has gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""


def children(pid: int) -> set[int]:
    """The children of a process, zombies included; none when it has gone."""
    found: set[int] = set()
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found.update(map(int, (task / "children").read_text("ascii").split()))
    return found


def starters(supervisor: int, programs: set[int]) -> set[int]:
    """The process that a supervisor has its programs forked from.

    Forks of it have its command line; those that are no program yet look like it for a moment.
    """
    return {pid for pid in children(supervisor) - programs if "/starter.py " in command_line(pid)}


def sockets(pids: Iterable[int]) -> set[str]:
    """The inodes of all sockets these processes hold."""
    found = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            for entry in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    kind, _, inode = str(entry.readlink()).partition(":")
                    if kind == "socket":
                        found.add(inode.strip("[]"))
    return found


def listening(inodes: set[str]) -> set[str]:
    """Those of these sockets that a TCP client can still connect to, as `address:port` in hex.

    By inode, so that a port which somebody else has taken meanwhile is not held against anybody.
    """
    rows = [line.split() for line in Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]]
    return {row[1] for row in rows if row[3] == _LISTENS and row[9] in inodes}


def answering(folder: Path) -> list[Path]:
    """The unix sockets in this folder and below behind which somebody listens."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for path in folder.rglob("*"):
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
                if stat.S_ISSOCK(path.stat().st_mode):
                    client.settimeout(1.0)
                    client.connect(str(path))
                    found.append(path)
    return found
