"""`mesh ls`."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from mesh.commands import output
from mesh.commands.verb import json_option, verb
from mesh.errors import MeshError
from mesh.orchestrator import state
from mesh.orchestrator.remote import Remote
from mesh.text import age

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECT_S = 0.5
"""For a socket whose owner may be suspended."""

_PEER = struct.Struct("3i")


def _supervisors() -> Iterator[int]:
    """The pids behind the control sockets of this user."""
    uid = os.getuid()
    folders = [*Path("/tmp").glob(f"mesh-{uid}-*")]  # noqa: S108  (the runtime folders' fallback)
    if base := os.environ.get("XDG_RUNTIME_DIR"):
        folders += Path(base).glob("mesh-*")
    for folder in folders:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(CONNECT_S)
            connection.connect(str(folder / "control.sock"))
            raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
            pid, owner, _ = _PEER.unpack(raw)
            if owner == uid:
                yield pid


def _data_directory(pid: int) -> Path | None:
    """A supervisor holds the lock of its data directory open."""
    with contextlib.suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                target = link.readlink()
                if target == state.lock_path(target.parent.parent):
                    return target.parent.parent
    return None


def meshes() -> list[dict[str, object]]:
    """Every mesh of this user that answers."""
    found = []
    for pid in _supervisors():
        data = _data_directory(pid)
        if data is None:
            continue
        with contextlib.suppress(MeshError):
            remote = Remote.find(data)
            status = remote.status()
            supervisor, services = status["supervisor"], status["services"]
            assert isinstance(supervisor, dict)
            assert isinstance(services, list)
            found.append(
                {
                    "project": status["project"],
                    "pid": pid,
                    "uptime_s": supervisor["uptime_s"],
                    "services": len(services),
                    "up": sum(row["state"] in {"ready", "degraded"} for row in services),
                    "data_dir": str(data),
                    "config_file": remote.run["config_file"],
                }
            )
    return found


@verb("mesh ls", "mesh ls --json")
@json_option
def command(*, as_json: bool) -> None:
    """Show the meshes of this user that run on this machine."""
    found = meshes()
    if as_json:
        output.json_line({"schema": "mesh.ls/1", "meshes": found})
        return
    if not found:
        output.note("no mesh runs on this machine")
        return
    output.table(
        ["PROJECT", "PID", "UPTIME", "UP", "DATA"],
        [
            [
                str(row["project"]),
                str(row["pid"]),
                age(row["uptime_s"]),
                f"{row['up']}/{row['services']}",
                str(row["data_dir"]),
            ]
            for row in found
        ],
    )
