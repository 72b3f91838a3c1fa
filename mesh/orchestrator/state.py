"""What a running mesh leaves on disk for others to find it: a lock, a description, a short folder.

The truth about whether a mesh runs is the lock and the control socket; `mesh.json` is for display
and for finding them, and is believed only while the very process that wrote it lives. Standard
library only: every command reads it first.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import stat
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, TypedDict, cast

from mesh.errors import AlreadyRunning, Broken
from mesh.orchestrator import replacing

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMA = "mesh.run/1"

RUNTIME_PATH_BYTES_MAX = 80
"""A unix socket's path may have 107 bytes; this leaves 26 for the name of one in this folder, and of
the folder of one program in it."""

_PID_TRIES = 20
_PID_WAIT_S = 0.005
"""Between taking the lock and writing a pid into it lie microseconds; 100 ms are plenty."""

_LOCK_TRIES = 10
"""How often the lock's file may vanish, as another mesh ends, between opening and locking it."""


class Endpoint(TypedDict):
    """Where one service answers."""

    port: int
    url: str


class Run(TypedDict):
    """`mesh.json`.

    `start_time` is in clock ticks since boot, as in /proc/<pid>/stat; `options` are those of `mesh up`
    that have to be said again where this mesh is begun again.
    """

    schema: str
    project: str
    pid: int
    start_time: int
    boot_id: str
    run_id: str
    runtime_dir: str
    control: str
    config_file: str
    data_dir: str
    started_at: str
    options: list[str]
    services: dict[str, Endpoint]


def runtime_dir(data_dir: Path) -> Path:
    """The folder for this mesh's sockets, by the real path of its data folder. Makes nothing."""
    digest = hashlib.sha256(os.fsencode(os.path.realpath(data_dir))).hexdigest()[:12]
    if base := os.environ.get("XDG_RUNTIME_DIR"):
        chosen = Path(base) / f"mesh-{digest}"
        if chosen.is_absolute() and len(os.fsencode(chosen)) <= RUNTIME_PATH_BYTES_MAX:
            return chosen
    return Path(f"/tmp/mesh-{os.getuid()}-{digest}")  # noqa: S108  # owner and mode are checked


@contextlib.contextmanager
def made_runtime_dir(data_dir: Path) -> Iterator[Path]:
    """The folder, ours alone and empty of sockets; removed at the end. Call it under the lock.

    Raises: Broken when somebody else's folder or a link stands there.
    """
    folder = runtime_dir(data_dir)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if not _is_ours(folder):
        raise Broken(
            f"{folder} is not a folder of this user's own",
            hint="remove it, or set XDG_RUNTIME_DIR",
        )
    folder.chmod(0o700)
    _empty(folder)
    try:
        yield folder
    finally:
        _empty(folder)
        with contextlib.suppress(OSError):
            folder.rmdir()


def _is_ours(folder: Path) -> bool:
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()


def _empty(folder: Path) -> None:
    """Unlink every socket, also of programs that have a folder there: who listened is gone."""
    _unlink_sockets(folder)
    with contextlib.suppress(FileNotFoundError):
        for entry in folder.iterdir():
            if stat.S_ISDIR(entry.lstat().st_mode):
                _unlink_sockets(entry)
                with contextlib.suppress(OSError):
                    entry.rmdir()


def _unlink_sockets(folder: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        for entry in folder.iterdir():
            if stat.S_ISSOCK(entry.lstat().st_mode):
                entry.unlink()


def lock_path(data_dir: Path) -> Path:
    """The file that is locked while a mesh runs on this data folder, and removed at its end."""
    return data_dir / "run" / "mesh.lock"


@contextlib.contextmanager
def locked(data_dir: Path, doing: str = "") -> Iterator[None]:
    """Hold the data folder. Nothing may be unlinked or bound before this.

    Args:
        doing: what others are told of it, where it is not a mesh that runs.

    Raises: AlreadyRunning, with the holder's `pid`; Broken when a restore that was cut off cannot
        be brought to its end.
    """
    path = lock_path(data_dir)
    descriptor = _take(path)
    try:
        os.truncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()} {doing}".rstrip().encode())
        replacing.settle(data_dir)
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _take(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    for _ in range(_LOCK_TRIES):
        descriptor = os.open(path, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise _held(path) from None
        if _is(descriptor, path):
            return descriptor
        os.close(descriptor)
    raise _held(path)


def _is(descriptor: int, path: Path) -> bool:
    """Whether the locked file still has its name: an ending mesh unlinks it."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _held(path: Path) -> AlreadyRunning:
    pid, doing = None, ""
    for _ in range(_PID_TRIES):
        with contextlib.suppress(OSError, ValueError):
            number, _, doing = path.read_text("utf-8").partition(" ")
            pid = int(number)
            os.kill(pid, 0)
            break
        pid = None
        sleep(_PID_WAIT_S)
    by = f" (pid {pid})" if pid else ""
    if pid and doing:
        return AlreadyRunning(f"{doing}{by}", hint="try again when that has ended", pid=pid)
    return AlreadyRunning(
        f"a mesh runs here already{by}", hint="mesh start SERVICE, or mesh dash", pid=pid
    )


def run_path(data_dir: Path) -> Path:
    """The file that describes the mesh which runs on this data folder."""
    return data_dir / "run" / "mesh.json"


@contextlib.contextmanager
def published(run: Run) -> Iterator[None]:
    """Have `mesh.json` say this, whole or not at all; removed at the end."""
    path = run_path(Path(run["data_dir"]))
    folder = path.parent
    draft = folder / ".mesh.json.new"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, json.dumps(run).encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    draft.replace(path)
    _sync(folder)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def running(data_dir: Path) -> Run | None:
    """The mesh that runs on this data folder, if the process that said so still lives."""
    path = run_path(data_dir)
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        return None
    run = cast("Run", found)
    lives = run.get("boot_id") == boot_id() and run.get("start_time") == start_time(run["pid"])
    return run if lives else None


def start_time(pid: int) -> int | None:
    """When a process was started, in clock ticks since boot; with its pid, who it is."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])


def boot_id() -> str:
    """Random at each boot, so that a description does not outlive it."""
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
