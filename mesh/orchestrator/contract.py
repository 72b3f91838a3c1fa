"""What an orchestrator is asked and answers. Read this first.

The orchestrator runs *programs*: names, commands, ports and health questions. It knows nothing of
a service's code, of buses or of databases. `supervisor.Supervisor` does the work in its own
process; `remote.Remote` is the same orchestrator seen through the control socket.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

from msgspec import Struct

from mesh.config import Dependency, Healthcheck, RestartPolicy

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

State = Literal["stopped", "starting", "ready", "degraded", "backoff", "failed", "stopping"]
"""Observed states; *desired* is kept apart, and a reconciler moves one to the other."""

UP: frozenset[State] = frozenset({"ready", "degraded"})
"""The states in which a program answers."""

EX_CONFIG = 78
"""Exit status (sysexits.h) by which a program says that starting it again will not help."""


class Program(Struct, frozen=True, kw_only=True):
    """One program to run.

    Exactly one of `entry` (`module:function`, called with `args` in a fork of the preloaded
    starter) and `command` (argv of any program) is set.

    `port` is None for a program without one, 0 for any free one. `socket` says who listens:
    `inherit` = the supervisor, handing the descriptor over (LISTEN_FDS); `own` = the program,
    on $PORT. The supervisor adds PORT, HOST, MESH_SERVICE, MESH_NOTIFY_FD and, for each of
    `peers`, MESH_URL_<PEER> to `environment`, and each variable of `addresses` with the URL of a
    place (`bus/events`) of a program that has a port.

    `health` None means: ready when it says READY=1 on its notify pipe.
    """

    name: str
    entry: str | None = None
    args: tuple[str, ...] = ()
    command: tuple[str, ...] | None = None
    environment: dict[str, str] = {}
    working_dir: str = "."
    port: int | None = None
    socket: Literal["inherit", "own"] = "inherit"
    peers: tuple[str, ...] = ()
    addresses: dict[str, str] = {}
    depends_on: dict[str, Dependency] = {}
    restart: RestartPolicy = RestartPolicy()
    stop_signal: str = "SIGTERM"
    stop_grace_s: float = 10.0
    start_timeout_s: float = 10.0
    health: Healthcheck | None = None
    sandbox: Literal["auto", "required", "off"] = "auto"


FaultKind = Literal["kill", "pause", "latency", "error", "drop"]


class Fault(Struct, frozen=True, kw_only=True):
    """Something broken on purpose, for `for_s` seconds.

    `rate` is kills a second for `kill`, else the share of requests or messages that is hit; `ms`
    the delay of a `latency`. `seed` decides which are hit. `left_s` counts down in answers.
    """

    kind: FaultKind
    target: str
    for_s: float
    rate: float = 1.0
    seed: int = 0
    ms: int = 0
    left_s: float = 0.0


class ProgramStatus(Struct, frozen=True, kw_only=True):
    """One row of `mesh ps --json`; unknown values are None."""

    name: str
    state: State
    pid: int | None = None
    port: int | None = None
    url: str | None = None
    uptime_s: float | None = None
    restarts: int = 0
    cpu_percent: float | None = None
    rss_bytes: int | None = None
    requests_per_s: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    error_percent: float | None = None
    lag: int | None = None
    sandbox: str | None = None
    cause: str | None = None
    """Why it is in this state, for a person: `exit 1`, `signal 9`, `start timeout`, …"""
    faults: tuple[Fault, ...] = ()
    """What is being done to it on purpose."""


class SupervisorStatus(Struct, frozen=True, kw_only=True):
    """The process that runs the others."""

    pid: int
    uptime_s: float


class Status(Struct, frozen=True, kw_only=True):
    """`mesh ps --json`, first member `schema`."""

    schema: str = "mesh.ps/1"
    project: str
    supervisor: SupervisorStatus | None
    services: tuple[ProgramStatus, ...]


class Stopped(Struct, frozen=True, kw_only=True):
    """How one program ended when asked to."""

    name: str
    how: Literal["graceful", "killed", "already stopped"]
    after_s: float


class Transition(Struct, frozen=True, kw_only=True):
    """One change of state, as it is logged and as followers see it. `at_s` is monotonic.

    `evidence` is the last lines this program logged since its latest start, when it failed.
    """

    name: str
    old: State
    new: State
    cause: str
    at_s: float
    restarts: int
    pid: int | None = None
    evidence: tuple[str, ...] = ()


Reason = Literal["down", "signal", "ended"]


class Outcome(Struct, frozen=True, kw_only=True):
    """How a mesh ended: asked over the socket, by a signal, or because no program is left to run.

    `failed` names the programs that were in state `failed` just before the end.
    """

    reason: Reason
    stopped: tuple[Stopped, ...]
    failed: tuple[str, ...]


class Orchestrator(Protocol):
    """What both the supervisor and its remote answer. Names are checked before anything is done.

    The supervisor answers what takes time as coroutines; the remote answers structs as the plain
    dicts and lists of their JSON, since it imports the standard library only.

    Raises: NotFound (with a suggestion) for a name that is not configured; NotRunning (remote
    only) when no mesh runs here.
    """

    def status(self) -> Status:
        """Every program, in configured order."""

    def start(self, names: Sequence[str]) -> None:
        """Desire these to run, and what they depend on; clears `failed`. Returns at once."""

    def stop(self, names: Sequence[str]) -> list[Stopped]:
        """Desire these stopped; returns when they are. Not a crash."""

    def restart(self, names: Sequence[str]) -> None:
        """Stop and start each; their listening sockets stay open. Returns when they are up.

        Raises: ProgramFailed when one does not come back.
        """

    def kill(self, names: Sequence[str], signal: str) -> None:
        """Send a signal to each program's whole group. Asked for, so neither crash nor backoff."""

    def down(self, timeout_s: float | None) -> list[Stopped]:
        """Stop everything level by level under one deadline, then end the supervisor."""

    def token(self, subject: str, audience: str) -> str:
        """A token of at most 60 s, as `operator` or as one of the services, for `audience`."""

    def inflict(self, fault: Fault) -> None:
        """Break something on purpose; it is mended by itself after `for_s` seconds.

        What is inflicted inside a program (`latency`, `error`, `drop`) is only kept and shown
        here: the program does it, and it ends with its process at the latest.

        Raises: Conflict when the target has no process, or too much is broken already.
        """

    def mend(self, names: Sequence[str]) -> tuple[Fault, ...]:
        """End the faults of these programs now, of all when none is named; what was ended."""

    def watch(self) -> Iterator[Status | Transition]:
        """The present status, then every transition as it happens, until the mesh goes down."""
