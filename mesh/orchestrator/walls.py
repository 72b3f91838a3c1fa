"""What a program may touch: its own folder, code and libraries, its peers' ports, and nothing else.

Worked out in the supervisor each time a program is started, so that what has come meanwhile is
seen; put up by the starter's child (`landlock`). Data of others lie inside the folder of the
project as a rule, so that folder is granted entry by entry, around them.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict
from urllib.parse import urlsplit

from mesh.errors import ProgramFailed
from mesh.orchestrator import landlock

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mesh.orchestrator.contract import Program

ENTRIES_MAX = 4096
"""Of the folders around data: each is a rule, some 20 µs at every start of a program."""

ANCESTORS_MAX = 1024
"""Looked at from a process upwards; one with more is taken to be inside."""

SYSTEM = (
    *("/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/etc", "/opt"),
    *("/nix/store", "/gnu/store", "/proc", "/sys"),
)
"""Read by any program: libraries, names, what it may use of the machine."""

DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
RESOLVER = "/etc/resolv.conf"
"""Often a link into /run; its folder is granted, since the file is replaced now and then."""

_OF_AN_INSTALLATION = ("bin", "shims")
"""Folders beside which lies what the programs in them need; shims are what version managers make."""

_PORTS = {"http": 80, "https": 443, "postgresql": 5432, "nats": 4222}
_ADDRESS = re.compile(r"(?:([a-z][a-z0-9+.-]*)://)?[^\s,;/?#]+")
_NAMING_ADDRESSES = ("MESH_", "OTEL_")

Shown = Literal["landlock", "none", "off"]


class Walls(TypedDict):
    """What the starter's child is told.

    `unlisted` are folders it may not list, though it may read most of what is in them; `bytecode` is
    where it may keep what it compiles.
    """

    grants: landlock.Grants
    unlisted: list[str]
    bytecode: str


def shown(program: Program) -> Shown | None:
    """The column of `mesh ps`; None where nobody has said anything about a sandbox."""
    if program.sandbox is None:
        return None
    if program.sandbox.mode == "off":
        return "off"
    return "landlock" if landlock.abi() else "none"


def check(programs: Sequence[Program]) -> tuple[str, ...]:
    """The programs that would have walls, on a kernel that has none to give; else nobody.

    Raises: ProgramFailed when one of them is not to run without.
    """
    if landlock.abi():
        return ()
    wanting = {each.name: each.sandbox.mode for each in programs if each.sandbox is not None}
    if refused := [name for name, mode in wanting.items() if mode == "required"]:
        raise _impossible(", ".join(refused))
    return tuple(name for name, mode in wanting.items() if mode == "auto")


def _impossible(who: str) -> ProgramFailed:
    return ProgramFailed(
        f"{who}: not to run without a sandbox, and this kernel has no Landlock",
        hint="sandbox: auto, or mesh up --no-sandbox; mesh doctor says more",
        code="no-sandbox",
    )


def branch(pid: int) -> int | None:
    """The child of this process from which another descends, or which it is; None if none.

    What such a child leaves behind becomes a child of this process, which adopts orphans: nobody
    gets away from here by forking. One that has ended could have been anybody's: it counts as inside.
    """
    for step in range(ANCESTORS_MAX):
        parent = _parent(pid)
        if not parent and not step:
            return pid
        if parent == os.getpid():
            return pid
        if parent <= 1:
            return None
        pid = parent
    return pid


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[1])
    except OSError:
        return 0


def around(path: str, hidden: Sequence[str]) -> tuple[list[str], list[str]]:
    """Everything of `path` outside the `hidden` folders: what to grant, and what stays unlisted.

    Args:
        path: of a folder or file; links are followed, so none leads into what is hidden.
        hidden: real paths.

    Raises: ProgramFailed when that takes more than ENTRIES_MAX grants.
    """
    granted: list[str] = []
    unlisted: list[str] = []
    left = [path]
    while left:
        here = left.pop()
        real = os.path.realpath(here)
        if any(_within(real, each) for each in hidden):
            continue
        if not any(_within(each, real) for each in hidden):
            granted.append(real)
            continue
        unlisted += dict.fromkeys((here, real))
        left += _entries(real)
        if len(granted) + len(left) > ENTRIES_MAX:
            raise ProgramFailed(
                f"{path} has more than {ENTRIES_MAX} entries beside the data in it",
                hint="--data-dir somewhere else, or sandbox: off",
            )
    return granted, unlisted


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _entries(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.path for entry in entries]
    except OSError:
        return []


def planned(program: Program, environment: Mapping[str, str], log: Path) -> Walls | None:
    """The walls for one start of a program; None for none.

    Args:
        environment: everything it is going to find there.
        log: the file that its output goes to.

    Raises: ProgramFailed when it is not to run without walls, or there would be too many grants.
    """
    sandbox = program.sandbox
    if sandbox is None or sandbox.mode == "off":
        return None
    if not landlock.abi():
        if sandbox.mode == "required":
            raise _impossible(program.name)
        return None
    hidden = [os.path.realpath(each) for each in program.hidden]
    granted, unlisted = [], []
    for path in dict.fromkeys(_readable(program, environment)):
        seen, closed = around(path, hidden)
        granted += seen
        unlisted += closed
    inside = sandbox.network == "peers"
    ports = sorted({*_own_port(environment), *_ports(program, environment)})
    return {
        "grants": {
            "list": [*program.lists],
            "read": [*dict.fromkeys((*granted, *sandbox.read))],
            "write": [*program.writes, *sandbox.write, str(log)],
            "devices": [*DEVICES],
            "connect": ports if inside else None,
            "bind": (_own_port(environment) if program.socket == "own" else []) if inside else None,
        },
        "unlisted": [*dict.fromkeys(unlisted)],
        "bytecode": str(Path(program.writes[0], "bytecode")) if program.writes else "",
    }


def _readable(program: Program, environment: Mapping[str, str]) -> Iterator[str]:
    """Code and libraries; around what is hidden, where that lies in one of these."""
    yield from SYSTEM
    yield str(Path(RESOLVER).resolve().parent)
    yield from (sys.prefix, sys.base_prefix, *(entry for entry in sys.path if entry))
    yield str(Path(__file__).parents[1])
    yield from program.reads
    for folder in environment.get("PATH", "").split(os.pathsep):
        if folder:
            yield from _installed(Path(folder).resolve())
    if program.command is not None:
        yield from _executable(program.command[0], program.working_dir, environment)


def _executable(name: str, folder: str, environment: Mapping[str, str]) -> Iterator[str]:
    """A program's file, and what is installed with it."""
    asked = str(Path(folder, name)) if "/" in name else name
    found = shutil.which(asked, path=environment.get("PATH"))
    if found is not None:
        file = Path(found).resolve()
        yield str(file)
        if file.parent.name in _OF_AN_INSTALLATION:
            yield from _installed(file.parent)


def _installed(programs: Path) -> Iterator[str]:
    """A folder of programs; `…/bin` means all of `…`, unless that is everything of somebody's."""
    yield str(programs)
    prefix, home = programs.parent, Path.home()
    if programs.name in _OF_AN_INSTALLATION and prefix not in (Path("/"), home, home / ".local"):
        yield str(prefix)


def _own_port(environment: Mapping[str, str]) -> list[int]:
    return [int(environment["PORT"])] if "PORT" in environment else []


def _ports(program: Program, environment: Mapping[str, str]) -> Iterator[int]:
    """Of the URLs that it was given: by us, by its configuration, and for telemetry."""
    for name, value in environment.items():
        if name in program.environment or name.startswith(_NAMING_ADDRESSES):
            for address in _ADDRESS.finditer(value):
                scheme = address[1] or ("http" if name.startswith("OTEL_") else "")
                if scheme:
                    yield from _port(address[0] if address[1] else f"//{address[0]}", scheme)


def _port(address: str, scheme: str) -> Iterator[int]:
    try:
        port = urlsplit(address).port or (_PORTS.get(scheme) if "://" in address else None)
    except ValueError:
        return
    if port is not None:
        yield port
