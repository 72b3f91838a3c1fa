"""A mesh of a user without privileges, run by root; nothing that the machine has is changed."""

from __future__ import annotations

import os
import shlex
import shutil
import stat
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from subprocess import run
from tempfile import mkdtemp
from typing import TYPE_CHECKING

from tests.support.running import RunningMesh

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from subprocess import Popen

UID = 65534
STRANGER = 65533

ROOT = Path(__file__).resolve().parents[2]
_SAID_BYTES = 4096


def _closed(path: Path) -> Path | None:
    """The folder on the way to a path that nobody but its owner gets through."""
    way = reversed((path, *path.parents))
    return next((each for each in way if not each.stat().st_mode & stat.S_IXOTH), None)


def _script() -> str:
    """Shell that opens, to itself alone, the way to the interpreter and to this code."""
    lines = ["set -e"]
    needed = {Path(each).resolve() for each in (sys.base_prefix, sys.prefix, ROOT)}
    behind: dict[Path, list[Path]] = {}
    for path in sorted(needed):
        door = _closed(path)
        if door is not None:
            behind.setdefault(door, []).append(path)
    for door, paths in behind.items():
        keep = shlex.quote(str(Path("/mnt")))
        lines.append(f"mount -t tmpfs -o mode=755 tmpfs {keep}")
        for n, path in enumerate(paths):
            lines.append(f"mkdir {keep}/{n}; mount --bind {shlex.quote(str(path))} {keep}/{n}")
        lines.append(f"mount -t tmpfs -o mode=755 tmpfs {shlex.quote(str(door))}")
        for n, path in enumerate(paths):
            there = shlex.quote(str(path))
            lines.append(f"mkdir -p {there}; mount --move {keep}/{n} {there}")
        lines.append(f"umount {keep}")
    become = f"setpriv --reuid={UID} --regid={UID} --clear-groups"
    lines.append(f'exec {become} "$@"')
    return "\n".join(lines)


def prefix() -> list[str]:
    """What stands before a command that nobody is to run."""
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", _script(), "sh"]


@cache
def impossible() -> str:
    """Why this cannot be done here; empty where it can."""
    if os.geteuid() != 0:
        return "only root can become somebody else"
    if not all(map(shutil.which, ("unshare", "setpriv", "mount"))):
        return "needs unshare, setpriv and mount"
    done = run([*prefix(), sys.executable, "-c", ""], capture_output=True, text=True, check=False)
    return f"this container allows no mounts: {done.stderr.strip()}" if done.returncode else ""


@dataclass
class NobodysMesh(RunningMesh):
    """A mesh whose commands and programs run as UID."""

    def start(self, *args: str) -> Popen[str]:
        """Start `mesh ARGS` and leave it running."""
        return self.begin([*prefix(), sys.executable, "-m", "mesh", *args])


@contextmanager
def home() -> Iterator[Path]:
    """A folder of nobody's, to which everybody finds the way."""
    folder = Path(mkdtemp(dir="/tmp", prefix="nobody-"))
    folder.chmod(0o755)
    os.chown(folder, UID, UID)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def give(folder: Path) -> None:
    """Have everything in a folder belong to nobody."""
    for path in folder.rglob("*"):
        os.chown(path, UID, UID)


def as_user(uid: int, act: Callable[[], object]) -> str:
    """`done`, or the name of the error, when a process of that user does something."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        said = "done"
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            act()
        except BaseException as error:  # noqa: BLE001  (whatever refuses it is the answer)
            said = type(error).__name__
        with suppress(OSError):
            os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    try:
        return os.read(reading, _SAID_BYTES).decode()
    finally:
        os.close(reading)
