"""The process that all programs are forked from: single-threaded, preloaded, and a dead man's switch.

The supervisor runs this file as a script (`python -P -u starter.py DESCRIPTOR PATH MODULE…`)
before it opens lock, loop or socket, so nothing of its own is ever inherited by a program. Each
request, one JSON message with its descriptors, is answered by a fork made twice: the supervisor,
a subreaper, becomes the parent and gets the exit status, at the cost of a fork and no import.

The new process leads its own session, holds only its own descriptors and does nothing until
it is told to go on. From then on it dies with the supervisor (PDEATHSIG); what it forked in turn
dies by this process, which kills every group it was told of once the supervisor's end closes.

It imports nothing but the standard library and what its arguments name, starts no thread, and
runs no program's code before the fork.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import fcntl
import gc
import importlib
import json
import os
import random
import resource
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypedDict

if TYPE_CHECKING:
    from mesh.orchestrator.walls import Walls

MESSAGE_BYTES_MAX = 128 * 1024
"""Largest request; most of it is a program's environment, which Linux caps at about this size."""

_DESCRIPTORS_MAX = 4
_OUTPUTS = (1, 2)
_LISTEN_FD = 3
"""Where sd_listen_fds(3) has it."""

_PARKED_FD_MIN = 16
"""Descriptors wait at numbers from here on while those below are cleared."""

CORE_LIMITS = (1, 1)
"""Bytes, of this process and whatever it forks: a dump would hold every key that was in memory. With
0 the kernel still hands one to a collector (core_pattern `|…`); 1 is its sign for neither."""

NOFILE_MAX = 1024
"""The cap of connections of a service and its files, twice; a leak then ends one program alone."""

ADDRESS_BYTES_MAX = 4 * 2**30
"""Of a program of ours, some twenty times what it uses. Other runtimes reserve more than they use."""

_WALLS = ("mesh.orchestrator.landlock", "mesh.orchestrator.imports")
"""Imported before anything that is preloaded: what is needed once the walls are to stand."""

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NAME = 15
_ENDED = signal.SIGTERM
_EX_CONFIG = 78

_libc = ctypes.CDLL(None, use_errno=True)


class Order(TypedDict):
    """A program to start; `descriptors` says what each of those sent along is for.

    `door` is a socket: a byte from it means go, its closing by us means that the program runs,
    text before that why it cannot. `notify`, `log`, and `listen` where there is one.
    """

    name: str
    entry: str | None
    args: list[str]
    command: list[str] | None
    environment: dict[str, str]
    working_dir: str
    walls: Walls | None
    descriptors: list[str]


Held = dict[str, int]
"""The descriptors that came with an order, by what they are for."""


def main() -> None:
    """Preload, say so, serve until the supervisor is gone; in a fork, become the program."""
    line = socket.socket(fileno=int(sys.argv[1]))
    supervisor = os.getppid()
    resource.setrlimit(resource.RLIMIT_CORE, CORE_LIMITS)
    _end_with_supervisor(line)
    sys.path[:] = sys.argv[2].split(os.pathsep)
    failed = _preload([*_WALLS])
    if not failed:
        sys.modules[_WALLS[-1]].prepare()
    failed |= _preload(sys.argv[3:])
    _outlive_supervisor()
    gc.collect()
    gc.freeze()
    with contextlib.suppress(OSError):
        line.send(json.dumps({"failed": failed}).encode())
    ordered = _serve(line)
    if ordered is not None:
        _become(*ordered, supervisor)


def _end_with_supervisor(line: socket.socket) -> None:
    """Until the line is read, have the kernel tell of the supervisor's end: imports may be long.

    Groups that were handed over by then are killed, as they are later.
    """

    def ended(_number: int, _frame: object) -> None:
        line.settimeout(0)
        groups: set[int] = set()
        with contextlib.suppress(OSError):
            while raw := line.recv(MESSAGE_BYTES_MAX):
                groups.update(json.loads(raw).get("adopt", ()))
        _kill(groups)
        os._exit(0)

    signal.signal(_ENDED, ended)
    _libc.prctl(_PR_SET_PDEATHSIG, int(_ENDED), 0, 0, 0)
    with contextlib.suppress(BlockingIOError):
        if not line.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT):
            ended(_ENDED, None)


def _outlive_supervisor() -> None:
    """From here on the end of the line says it, after what was said before."""
    _libc.prctl(_PR_SET_PDEATHSIG, 0, 0, 0, 0)
    signal.signal(_ENDED, signal.SIG_DFL)


def _preload(modules: list[str]) -> dict[str, str]:
    """Import each; returns what went wrong with those that cannot be. They will fail by name later."""
    failed = {}
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:  # noqa: BLE001  # whatever a module raises is reported, not fatal
            failed[module] = f"{type(error).__name__}: {error}"
    return failed


def _serve(line: socket.socket) -> tuple[Order, Held] | None:
    """Answer requests. Returns None when the supervisor is gone, an order in the fork made for it."""
    groups: set[int] = set()
    told = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    while True:
        try:
            raw, received, _, _ = socket.recv_fds(line, MESSAGE_BYTES_MAX, _DESCRIPTORS_MAX)
        except ConnectionResetError:
            raw, received = b"", []
        if not raw:
            _kill(groups)
            return None
        message = json.loads(raw)
        groups.update(message.get("adopt", ()))
        groups.difference_update(message.get("forget", ()))
        if message.get("output"):
            for standard in _OUTPUTS:
                os.dup2(received[0], standard)
        order: Order | None = message.get("start")
        if order is None:
            _close(received)
            continue
        answer: dict[str, object]
        try:
            pid = _fork_away(*told)
        except OSError as error:
            answer = {"to": message["id"], "error": f"cannot fork: {error}"}
        else:
            if pid == 0:
                line.detach()
                return order, dict(zip(order["descriptors"], received, strict=True))
            groups.add(pid)
            answer = {"to": message["id"], "pid": pid}
        _close(received)
        with contextlib.suppress(OSError):
            line.send(json.dumps(answer).encode())


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _kill(groups: set[int]) -> None:
    for group in groups:
        with contextlib.suppress(OSError):
            os.killpg(group, signal.SIGKILL)


def _fork_away(reader: int, writer: int) -> int:
    """Fork twice; returns 0 in the grandchild, here its pid once it is the supervisor's child.

    Args:
        reader: of a pipe that does not block, by which the process between tells that pid.
    """
    middle = os.fork()
    if middle:
        os.waitpid(middle, 0)
        return int(os.read(reader, 32))
    try:
        pid = os.fork()
    except OSError:
        os._exit(1)
    if pid:
        os.write(writer, str(pid).encode())
        os._exit(0)
    os.setsid()
    return 0


def _become(order: Order, held: Held, supervisor: int) -> None:
    """Wait for the word, bind this life to the supervisor's, enter the sandbox, be the program.

    Returns as the entry function does; its exceptions pass through, SystemExit included.
    """
    if os.read(held["door"], 1) == b"":
        os._exit(0)
    _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != supervisor:
        os._exit(0)
    _libc.prctl(_PR_SET_NAME, order["name"].encode(), 0, 0, 0)
    python = order["command"] is None
    _reset_signals(python=python)
    os.umask(0o077)
    door, listens, notify = _arrange(held, inheritable=not python)
    os.environ.clear()
    os.environ.update(order["environment"], MESH_NOTIFY_FD=str(notify))
    if listens:
        os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
    try:
        os.chdir(order["working_dir"])
    except OSError as error:
        _give_up(door, f"cannot enter {order['working_dir']}: {error.strerror}")
    _limit(python=python)
    if order["walls"] is not None:
        enter_sandbox(order["walls"], door, python=python)
    if order["command"] is not None:
        _execute(order["command"], door)
    os.close(door)
    _call(order)


def _limit(*, python: bool) -> None:
    """What one program may take of the machine."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = NOFILE_MAX if most == resource.RLIM_INFINITY else min(NOFILE_MAX, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files if python else most))
    if python:
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        if most == resource.RLIM_INFINITY or most > ADDRESS_BYTES_MAX:
            resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_BYTES_MAX, ADDRESS_BYTES_MAX))


def enter_sandbox(walls: Walls, door: int, *, python: bool) -> None:
    """Put up a program's walls: after its descriptors, before the first line of its own.

    One that cannot have them does not run: `mesh ps` would say what is not so.
    """
    from mesh.orchestrator import imports, landlock  # noqa: PLC0415  (found by the path we are given)

    try:
        landlock.enter(walls["grants"])
    except OSError as error:
        _give_up(
            door, f"cannot enter its sandbox: {error.strerror}; `sandbox: off` runs it without"
        )
    if python:
        imports.confine(walls["unlisted"], walls["bytecode"])
        _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _execute(command: list[str], door: int) -> NoReturn:
    try:
        os.execvp(command[0], command)  # noqa: S606  # argv as configured; a shell is what we avoid
    except OSError as error:
        _give_up(door, f"cannot run {command[0]}: {error.strerror}")


def _give_up(door: int, reason: str) -> NoReturn:
    """Say why on the way out. 78: starting this again will not help."""
    with contextlib.suppress(OSError):
        os.write(2, f"{reason}\n".encode(errors="backslashreplace"))
        os.write(door, reason.encode(errors="backslashreplace"))
    os._exit(_EX_CONFIG)


def _reset_signals(*, python: bool) -> None:
    """Defaults, as a new interpreter has them or, for any other program, as exec expects them."""
    for number in signal.valid_signals():
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    if python:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)


def _arrange(held: Held, *, inheritable: bool) -> tuple[int, bool, int]:
    """Give each descriptor its place and close all others.

    Args:
        inheritable: whether they survive exec: the program's own if it is one; but never those
            of its children, which would keep the port and the pipe open beyond its life.

    Returns: the door, whether there is a socket at 3, and the notify pipe.
    """
    parked = {
        purpose: fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _PARKED_FD_MIN)
        for purpose, descriptor in held.items()
    }
    for entry in Path("/proc/self/fd").iterdir():
        number = int(entry.name)
        if number > 2 and number not in parked.values():  # noqa: PLR2004  # stdin, stdout, stderr
            with contextlib.suppress(OSError):
                os.close(number)
    for standard in _OUTPUTS:
        os.dup2(parked["log"], standard)
    place = _LISTEN_FD
    for purpose in ("listen", "notify"):
        if purpose in parked:
            os.dup2(parked[purpose], place, inheritable=inheritable)
            place += 1
    for purpose, descriptor in parked.items():
        if purpose != "door":
            os.close(descriptor)
    return parked["door"], "listen" in parked, place - 1


def _call(order: Order) -> None:
    """Import the entry's module and call it, in what looks like an interpreter of its own."""
    module, _, function = (order["entry"] or "").partition(":")
    random.seed()
    faulthandler.enable()
    sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
    sys.argv = [order["name"], *order["args"]]
    sys.path.insert(0, str(Path.cwd()))
    getattr(importlib.import_module(module), function)(*order["args"])


if __name__ == "__main__":
    main()
