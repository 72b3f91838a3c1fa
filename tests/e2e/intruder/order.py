"""A service in the place of order that tries what it should not be able to do, and says how it went.

Each attempt is a function of what it was told; one that raises was refused, with the error's name.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sqlite3
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from mesh.framework import ANYONE, Context, Operation, Service

if TYPE_CHECKING:
    from collections.abc import Callable


class Target(Struct, frozen=True):
    """What there is outside: of user, and of nobody here."""

    user_pid: int
    user_port: int
    foreign_port: int
    abstract: str
    control: str
    outside: str


class Tried(Struct, frozen=True):
    """How each attempt went: `done`, or the name of the error."""

    forbidden: dict[str, str]
    allowed: dict[str, str]


OWN = Path(os.environ["MESH_DATA_DIR"])
DATA = OWN.parent
USER = DATA / "user"
VICTIM = USER / "victim"
"""A file of user's beside its database, which can be harmed without harm."""


def _own_connection() -> sqlite3.Connection:
    return sqlite3.connect(OWN / "intruder.db", isolation_level=None)


def _read_database(_: Target) -> None:
    with contextlib.closing(sqlite3.connect(f"file:{USER / 'user.db'}?mode=ro", uri=True)) as user:
        user.execute("SELECT count(*) FROM sqlite_master").fetchone()


def _attach(_: Target) -> None:
    with contextlib.closing(_own_connection()) as own:
        own.execute("ATTACH ? AS other", (str(USER / "user.db"),))
        own.execute("SELECT count(*) FROM other.sqlite_master").fetchone()


def _connect(family: int, address: object) -> None:
    with socket.socket(family) as caller:
        caller.settimeout(2.0)
        caller.connect(address)


def _ask_supervisor(target: Target) -> None:
    with socket.socket(socket.AF_UNIX) as caller:
        caller.settimeout(5.0)
        caller.connect(target.control)
        asked = {"id": 1, "method": "token", "params": {"subject": "operator", "audience": "user"}}
        caller.sendall(json.dumps(asked).encode() + b"\n")
        answer = json.loads(caller.makefile().readline())
    if "error" in answer:
        raise PermissionError(answer["error"]["type"])


def _ask_by_orphan(target: Target) -> None:
    """As a daemon would: forked twice, in a session of its own, its parent gone."""
    reading, writing = os.pipe()
    middle = os.fork()
    if not middle:
        os.setsid()
        if not os.fork():
            while os.getppid() == os.getsid(0):
                pass
            told = b"done"
            try:
                _ask_supervisor(target)
            except OSError as error:
                told = type(error).__name__.encode()
            os.write(writing, told)
        os._exit(0)
    os.waitpid(middle, 0)
    os.close(writing)
    told = os.read(reading, 64)
    os.close(reading)
    if told != b"done":
        raise PermissionError(told)


def _bind(_: Target) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))


def _read_environment(target: Target) -> None:
    """Some kernels let it be opened, and show nothing."""
    if not Path(f"/proc/{target.user_pid}/environ").read_bytes():
        raise PermissionError


FORBIDDEN: dict[str, Callable[[Target], object]] = {
    "open user's database": lambda _: (USER / "user.db").open("rb").close(),
    "open user's database to write": lambda _: (USER / "user.db").open("r+b").close(),
    "query user's database": _read_database,
    "attach user's database": _attach,
    "list user's folder": lambda _: [*(USER).iterdir()],
    "list the data folder": lambda _: [*(DATA).iterdir()],
    "list the project's folder": lambda _: [*(DATA.parent).iterdir()],
    "write into user's folder": lambda _: (USER / "planted").write_text("x"),
    "truncate user's file": lambda _: os.truncate(VICTIM, 0),
    "link user's file": lambda _: os.link(VICTIM, OWN / "linked"),
    "rename user's file": lambda _: VICTIM.rename(OWN / "stolen"),
    "unlink user's file": lambda _: VICTIM.with_suffix(".old").unlink(),
    "read user's key": lambda _: (DATA / "run" / "identity" / "user.json").read_bytes(),
    "read auth's seed": lambda _: (DATA / "run" / "seed" / "auth.json").read_bytes(),
    "read user's log": lambda _: (DATA / "logs" / "user.log").read_bytes(),
    "read a backup": lambda _: next((DATA / "backups").iterdir()).read_bytes(),
    "write outside": lambda told: Path(told.outside).write_text("x"),
    "write into the project": lambda _: (DATA.parent / "planted.py").write_text("x"),
    "write into its own code": lambda _: Path(__file__).with_name("planted.py").write_text("x"),
    "change its own code": lambda _: Path(__file__).open("a").close(),
    "write to /tmp": lambda _: tempfile.mkdtemp(dir="/tmp"),
    "connect to user": lambda told: _connect(socket.AF_INET, ("127.0.0.1", told.user_port)),
    "connect elsewhere": lambda told: _connect(socket.AF_INET, ("127.0.0.1", told.foreign_port)),
    "connect to an abstract socket": lambda told: _connect(socket.AF_UNIX, f"\0{told.abstract}"),
    "listen somewhere": _bind,
    "signal user": lambda told: os.kill(told.user_pid, signal.SIGCONT),
    "read user's environment": _read_environment,
    "read user's memory": lambda told: Path(f"/proc/{told.user_pid}/mem").open("rb").close(),
    "ask the supervisor for a token": _ask_supervisor,
    "ask it as an orphan": _ask_by_orphan,
}


def _peer(name: str) -> Callable[[Target], None]:
    def connect(_: Target) -> None:
        port = int(os.environ[f"MESH_URL_{name.upper()}"].rpartition(":")[2])
        _connect(socket.AF_INET, ("127.0.0.1", port))

    return connect


def _own_database(_: Target) -> None:
    with contextlib.closing(_own_connection()) as own:
        own.execute("PRAGMA journal_mode=wal")
        own.execute(
            "CREATE TABLE IF NOT EXISTS t (a) STRICT"
            if False
            else "CREATE TABLE IF NOT EXISTS t (a)"
        )
        own.execute("INSERT INTO t VALUES (randomblob(100000))")
        own.execute("VACUUM")


ALLOWED: dict[str, Callable[[Target], object]] = {
    "write its own database": _own_database,
    "make a temporary file": lambda _: tempfile.NamedTemporaryFile().close(),
    "reopen its own log": lambda _: Path("/dev/stdout").open("a").close(),
    "read code": lambda _: Path(__file__).read_bytes(),
    "read /proc": lambda _: Path("/proc/self/status").read_text(),
    "list its descriptors": lambda _: [*Path("/proc/self/fd").iterdir()],
    "look up a name": lambda _: socket.getaddrinfo("localhost", 80),
    "read random bytes": lambda _: os.read(os.open("/dev/urandom", os.O_RDONLY), 1),
    "run a program": lambda _: os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0),
    "connect to product": _peer("product"),
    "connect to auth": _peer("auth"),
}


def _how(attempt: Callable[[Target], object], target: Target) -> str:
    try:
        attempt(target)
    except Exception as error:  # noqa: BLE001  # whatever refuses it is the answer
        return type(error).__name__
    return "done"


async def trespass(_: Context, target: Target) -> Tried:
    """Try everything."""
    return Tried(
        {what: _how(attempt, target) for what, attempt in FORBIDDEN.items()},
        {what: _how(attempt, target) for what, attempt in ALLOWED.items()},
    )


service = Service(
    name="order",
    summary="Tries its walls.",
    operations=(
        Operation(
            "trespass",
            "POST /trespass",
            trespass,
            Target,
            Tried,
            allow=ANYONE,
            example=Target(1, 1, 1, "x", "/x", "/x"),
        ),
    ),
)
