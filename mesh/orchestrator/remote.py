"""A running mesh, seen from another process: the orchestrator of `contract.py` over its socket.

Standard library only, so that a command which asks one question starts fast; structs come as the
plain dicts and lists of their JSON. Every call is a connection of its own and has a bound.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, BinaryIO, TypedDict, cast

from mesh import clock, errors
from mesh.errors import DeadlineExceeded, MeshError, NotRunning
from mesh.orchestrator import state

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

CONNECT_S = 2.0
"""A supervisor's loop is never away for longer, unless the process is suspended."""

ANSWER_S = 10.0
"""For what is answered at once."""

STOP_S = 120.0
"""For what waits for programs to stop or to come back, whatever grace they were given."""

GONE_S = 5.0
"""From the answer to `down` until the supervisor has put everything away."""

PROCESS_S = 1.0
"""And then for its process, which may have a terminal to restore."""

_POLL_S = 0.005


class StatusJson(TypedDict):
    """`contract.Status` as JSON has it; a service is a `contract.ProgramStatus`."""

    schema: str
    project: str
    supervisor: dict[str, object]
    services: list[dict[str, object]]


class Remote:
    """The mesh that runs on one data folder.

    Every method raises NotRunning when the mesh has gone, DeadlineExceeded when it does not
    answer in time, and whatever the supervisor raised, as the same class.

    Attributes:
        run: the content of `mesh.json`.
    """

    def __init__(self, data_dir: Path) -> None:
        """Find the mesh that runs there. Raises: NotRunning."""
        run = state.running(data_dir)
        if run is None:
            raise NotRunning(f"no mesh runs on {data_dir}", hint="mesh up -d")
        self.run = run

    @classmethod
    def find(cls, data_dir: Path) -> Remote:
        """The mesh that runs there. Raises: NotRunning."""
        return cls(data_dir)

    def status(self) -> StatusJson:
        """`contract.Status`, that is, `mesh ps --json`."""
        return cast("StatusJson", self._ask("status", {}, ANSWER_S))

    def start(self, names: Sequence[str]) -> None:
        """Desire these to run, and what they depend on."""
        self._ask("start", {"names": [*names]}, ANSWER_S)

    def stop(self, names: Sequence[str]) -> list[dict[str, object]]:
        """Desire these stopped; one `contract.Stopped` each, when they are."""
        answer = self._ask("stop", {"names": [*names]}, STOP_S)
        return cast("list[dict[str, object]]", answer)

    def restart(self, names: Sequence[str]) -> None:
        """Stop and start each; returns when they are up."""
        self._ask("restart", {"names": [*names]}, STOP_S)

    def kill(self, names: Sequence[str], signal: str) -> None:
        """Send a signal (`KILL`, `SIGHUP`, `15`) to each program's whole group."""
        self._ask("kill", {"names": [*names], "signal": signal}, ANSWER_S)

    def down(self, timeout_s: float | None = None) -> list[dict[str, object]]:
        """Stop everything; one `contract.Stopped` each, when lock, sockets and process are gone."""
        supervisor = None
        with contextlib.suppress(ProcessLookupError):
            supervisor = os.pidfd_open(self.run["pid"])
        answer = self._ask("down", {"timeout_s": timeout_s}, STOP_S + (timeout_s or 0.0))
        self._wait_until_gone(supervisor)
        return cast("list[dict[str, object]]", answer)

    def token(self, subject: str, audience: str) -> str:
        """A token of at most 60 s, as `operator` or as one of the services, for `audience`."""
        return cast("str", self._ask("token", {"subject": subject, "audience": audience}, ANSWER_S))

    def explain(self, name: str) -> dict[str, object]:
        """`contract.Explanation` of one program."""
        return cast("dict[str, object]", self._ask("explain", {"name": name}, ANSWER_S))

    @contextlib.contextmanager
    def lend(self, name: str) -> Iterator[tuple[dict[str, object], int]]:
        """The program is stopped, and this process may be it inside.

        Gives `contract.Lease` and a descriptor that can be read once the mesh has gone.
        """
        lease, lending = self._kept("lend", {"name": name})
        with lending:
            yield cast("dict[str, object]", lease), lending.fileno()

    @contextlib.contextmanager
    def hold(self, names: Sequence[str], why: str) -> Iterator[list[str]]:
        """These programs are stopped inside, and stay so; gives those that are started at the end."""
        again, holding = self._kept("hold", {"names": [*names], "why": why})
        with holding:
            try:
                yield cast("list[str]", again)
            finally:
                with contextlib.suppress(OSError):  # the mesh has gone meanwhile
                    holding.shutdown(socket.SHUT_WR)
                    holding.settimeout(ANSWER_S)
                    holding.recv(1)

    def inflict(self, fault: Mapping[str, object]) -> None:
        """Break something on purpose, for a while; a `contract.Fault`."""
        self._ask("inflict", {"fault": dict(fault)}, ANSWER_S)

    def mend(self, names: Sequence[str]) -> list[dict[str, object]]:
        """End faults, all when nobody is named; the `contract.Fault`s that were ended."""
        return cast("list[dict[str, object]]", self._ask("mend", {"names": [*names]}, ANSWER_S))

    def watch(self, timeout_s: float | None = None) -> Iterator[dict[str, object]]:
        """`contract.Status` first (it has `schema`), then `contract.Transition`s until the end.

        Raises: DeadlineExceeded after `timeout_s` in all.
        """
        until_s = None if timeout_s is None else clock.monotonic_s() + timeout_s
        with self._connected("watch", timeout_s) as (connection, answers):
            _send(connection, "watch", {})
            while line := answers.readline():
                yield cast("dict[str, object]", _result(line))
                if until_s is not None:
                    connection.settimeout(max(until_s - clock.monotonic_s(), _POLL_S))

    def _kept(self, method: str, params: dict[str, object]) -> tuple[object, socket.socket]:
        """What was answered, and the connection: what was asked for lasts as long as it is open."""
        with contextlib.ExitStack() as kept:
            line = b""
            with self._connected(method, STOP_S) as (connection, answers):
                _send(connection, method, params)
                line = answers.readline()
                open_still = kept.enter_context(connection.dup())
            if not line:
                raise _gone()
            result = _result(line)
            kept.pop_all()
            return result, open_still

    def _ask(self, method: str, params: dict[str, object], timeout_s: float) -> object:
        line = b""
        with self._connected(method, timeout_s) as (connection, answers):
            _send(connection, method, params)
            line = answers.readline()
        if not line:
            raise _gone()
        return _result(line)

    @contextlib.contextmanager
    def _connected(
        self, method: str, timeout_s: float | None
    ) -> Iterator[tuple[socket.socket, BinaryIO]]:
        """A connection and what can be read from it; `timeout_s` bounds each wait.

        A supervisor that dies meanwhile looks like the end of what can be read.
        """
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(CONNECT_S)
            try:
                connection.connect(self.run["control"])
                connection.settimeout(timeout_s)
                with connection.makefile("rb") as answers:
                    yield connection, answers
            except (TimeoutError, BlockingIOError):
                raise DeadlineExceeded(f"the mesh did not answer {method} in time") from None
            except (FileNotFoundError, ConnectionRefusedError):
                raise _gone() from None
            except (ConnectionResetError, BrokenPipeError):
                return

    def _wait_until_gone(self, supervisor: int | None) -> None:
        """After the answer: the lock's file is the last thing to go, then the process."""
        until_s = clock.monotonic_s() + GONE_S
        lock = state.lock_path(Path(self.run["data_dir"]))
        while lock.exists() and clock.monotonic_s() < until_s:
            sleep(_POLL_S)
        if supervisor is not None:
            select.select([supervisor], [], [], PROCESS_S)
            os.close(supervisor)


def _gone() -> NotRunning:
    return NotRunning("the mesh went away", hint="mesh up -d")


def _send(connection: socket.socket, method: str, params: dict[str, object]) -> None:
    request = {"id": 1, "method": method, "params": params}
    with contextlib.suppress(BrokenPipeError):  # refused at the door: the answer says why
        connection.sendall(json.dumps(request).encode() + b"\n")


def _result(line: bytes) -> object:
    """What was answered. Raises: what the supervisor raised."""
    answer = cast("dict[str, object]", json.loads(line))
    if "error" in answer:
        raise _raised(cast("dict[str, object]", answer["error"]))
    return answer["result"]


def _raised(told: dict[str, object]) -> MeshError:
    """The error that was told, as its own class, with all it carried."""
    kind = getattr(errors, str(told["type"]), MeshError)
    error = cast("MeshError", kind.__new__(kind))
    facts = cast("dict[str, object]", told["facts"])
    if isinstance(error, errors.InvalidInput):
        error.pointer = str(facts.pop("pointer", ""))
    MeshError.__init__(
        error,
        str(told["detail"]),
        code=str(told["code"]),
        hint=cast("str | None", told["hint"]),
        evidence=tuple(cast("list[str]", told["evidence"])),
        **facts,
    )
    return error
