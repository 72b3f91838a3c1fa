"""What `mesh doctor` asks this machine. Looks only: what it makes, it removes again."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import socket
import sqlite3
import stat
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from mesh.orchestrator import landlock, state

if TYPE_CHECKING:
    from mesh.commands.project import Project

PYTHON_MIN = (3, 11)

SQLITE_MIN = (3, 37, 0)
"""STRICT tables."""

WAL_RESET_BUG = ((3, 7, 0), (3, 51, 2))
"""First and last release in which two connections that write or checkpoint at once can corrupt
a WAL database (https://sqlite.org/wal.html#walresetbug)."""

WAL_RESET_MENDED = ((3, 44, 6), (3, 50, 7))
"""Releases of older branches that have the repair."""

SOCKET_PATH_BYTES_MAX = 107
"""sockaddr_un on Linux, less the final NUL."""

SOCKET_NAME_BYTES = 26
"""The longest name of a socket of ours, with the slash before it."""

_REQUIREMENT = re.compile(r"([A-Za-z0-9_.-]+)(?:\[[^\]]*\])?>=([0-9.]+)")


class Finding(NamedTuple):
    """The answer to one question; `fix` is a command or a step where it is not `pass`."""

    status: Literal["pass", "warn", "fail"]
    detail: str
    fix: str | None = None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(digits) for digits in re.findall(r"\d+", version)[:3])


def python(_: Project) -> Finding:
    """The interpreter, and every package that mesh requires."""
    version = platform.python_version()
    if sys.version_info < PYTHON_MIN:
        return Finding("fail", f"Python {version} is older than 3.11", "install Python 3.11")
    try:
        required = importlib.metadata.requires("mesh") or []
    except importlib.metadata.PackageNotFoundError:
        return Finding(
            "warn", f"Python {version}; mesh runs from its source, uninstalled", "pip install -e ."
        )
    wrong = []
    wanted = [found for text in required if (found := _REQUIREMENT.match(text))]
    for name, floor in (match.groups() for match in wanted):
        try:
            have = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{name} is not installed")
            continue
        if _numbers(have) < _numbers(floor):
            wrong.append(f"{name} {have} is older than {floor}")
    if wrong:
        return Finding(
            "fail", f"Python {version}; {', '.join(wrong)}", "pip install --upgrade mesh"
        )
    return Finding("pass", f"Python {version}, {len(wanted)} packages")


def wal_reset_bug(version: tuple[int, ...]) -> bool:
    """Whether a SQLite release has the WAL-reset bug."""
    first, last = WAL_RESET_BUG
    mended = any(version[:2] == repair[:2] and version >= repair for repair in WAL_RESET_MENDED)
    return first <= version <= last and not mended


def _nearest(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(place for place in (folder, *folder.parents) if place.is_dir())


def sqlite(project: Project) -> Finding:
    """The library, and whether write-ahead logging works where the data will lie."""
    version = sqlite3.sqlite_version_info
    name = f"SQLite {sqlite3.sqlite_version}"
    if version < SQLITE_MIN:
        return Finding("fail", f"{name} is older than 3.37", "use a newer build of Python")
    try:
        with tempfile.TemporaryDirectory(dir=_nearest(project.data), prefix=".doctor-") as folder:
            connection = sqlite3.connect(Path(folder) / "probe.db")
            try:
                (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
                connection.execute("CREATE TABLE probe (n INTEGER) STRICT")
                connection.commit()
            finally:
                connection.close()
    except (OSError, sqlite3.Error) as error:
        return Finding("fail", f"{name}: cannot write in {project.data}: {error}", "--data-dir DIR")
    if mode != "wal":
        return Finding("fail", f"{name}: no WAL in {project.data}", "--data-dir on a local disk")
    if wal_reset_bug(version):
        name += " (has the WAL-reset bug; out of reach here: one connection writes and checkpoints)"
    return Finding("pass", f"{name}, WAL works in {project.data}")


def ports(project: Project) -> Finding:
    """Every fixed port is free, or held by this very mesh."""
    run = state.running(project.data)
    ours = {endpoint["port"] for endpoint in run["services"].values()} if run else set()
    wanted = {service.port: name for name, service in project.config.services.items()}
    wanted.pop(0, None)
    taken = [port for port in wanted if port not in ours and not _is_free(port)]
    if not taken:
        held = sum(port in ours for port in wanted)
        return Finding(
            "pass", f"{len(wanted) - held} of {len(wanted)} free, {held} held by this mesh"
        )
    told = ", ".join(f"{port} ({wanted[port]}) is held by {_holder(port)}" for port in taken)
    return Finding("fail", told, "mesh up --free-ports")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _holder(port: int) -> str:
    import psutil  # noqa: PLC0415  (only for a port that is taken)

    for connection in psutil.net_connections("tcp"):
        if connection.laddr and connection.laddr.port == port and connection.pid:
            try:
                return f"pid {connection.pid}, {psutil.Process(connection.pid).name()}"
            except psutil.Error:
                return f"pid {connection.pid}"
    return "a process that is not shown to this user"


def sockets(project: Project) -> Finding:
    """The folder for sockets has a short path and is nobody else's."""
    folder = state.runtime_dir(project.data)
    length = len(os.fsencode(folder)) + SOCKET_NAME_BYTES
    if length > SOCKET_PATH_BYTES_MAX:
        return Finding(
            "fail", f"{folder}: socket paths of {length} bytes, 107 are possible", "a shorter path"
        )
    try:
        found = folder.lstat()
    except FileNotFoundError:
        if os.access(folder.parent, os.W_OK | os.X_OK):
            return Finding("pass", f"{folder} can be made")
        return Finding("fail", f"{folder.parent} cannot be written", "export XDG_RUNTIME_DIR=DIR")
    mine = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
    if not mine:
        return Finding("fail", f"{folder} is somebody else's", "export XDG_RUNTIME_DIR=DIR")
    if stat.S_IMODE(found.st_mode) & 0o077:
        return Finding("warn", f"{folder} is open to others", f"chmod 700 {folder}")
    return Finding("pass", f"{folder} is ours alone")


_BROUGHT = (
    (landlock.NETWORK_ABI, "ports"),
    (landlock.DEVICES_ABI, "devices"),
    (landlock.SCOPES_ABI, "signals"),
)


def sandbox(project: Project) -> Finding:
    """Whether the kernel can put walls around programs, and how good they are."""
    version = landlock.abi()
    services = project.config.services.values()
    if not version:
        required = [each.name for each in services if each.sandbox.mode == "required"]
        told = "no Landlock in this kernel: any program can reach any file of this user"
        if required:
            told += f", and {', '.join(required)} must not run so"
        fix = "Linux 5.13 or newer with landlock among its lsm= modules"
        return Finding("fail" if required else "warn", told, fix)
    has = ["files", *(what for since, what in _BROUGHT if version >= since)]
    lacks = [what for since, what in _BROUGHT if version < since]
    off = [each.name for each in services if each.sandbox.mode == "off"]
    told = f"Landlock {version}: walls around {', '.join(has)}"
    told += f"; not around {', '.join(lacks)}" if lacks else ""
    told += f"; none for {', '.join(off)}, as configured" if off else ""
    return Finding("pass", told)


def configuration(project: Project) -> Finding:
    """The file is valid."""
    config = project.config
    return Finding("pass", f"{config.file}: {len(config.services)} services, valid")
