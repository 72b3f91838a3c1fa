"""Room on the disk under a mesh's data: whether a start has enough, and what to say where it has not."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mesh.errors import StorageFull

if TYPE_CHECKING:
    from pathlib import Path

NEEDED_BYTES = 2**20
"""With less no start succeeds: each service opens a database, its -wal and -shm, and a log."""

WAY_OUT = "free some space there, or --data-dir on another disk; then mesh down, mesh up"


def lacking(folder: Path) -> str | None:
    """What the disk of a folder lacks; None while there is room, or no such folder."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    free = (found.f_bavail if os.geteuid() else found.f_bfree) * found.f_frsize
    if free < NEEDED_BYTES:
        return f"the disk of {folder} is full: {free // 1024} KiB are left"
    if found.f_files and not found.f_favail:
        return f"the disk of {folder} takes no more files"
    return None


def check(folder: Path) -> None:
    """Before a start, which would fail where it is hard to say why. Raises: StorageFull."""
    if why := lacking(folder):
        raise StorageFull(why, hint=WAY_OUT)
