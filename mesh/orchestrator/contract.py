"""What an orchestrator is asked and answers. Read this first.

The orchestrator runs *programs*: names, commands, ports and health questions. It knows nothing of
a service's code, of buses or of databases. `supervisor.Supervisor` does the work in its own
process; `remote.Remote` is the same orchestrator seen through the control socket.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

from msgspec import Struct

from mesh.config import Dependency, Healthcheck, RestartPolicy, Sandbox
from mesh.figures import Asks, Hears, Tells

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

    `health` None, or one without a test, means: an entry is ready when it says READY=1 on its
    notify pipe, a command once its own port takes connections or, without one, once it runs.

    When something under one of the paths in `watch` changes, it is restarted, if that is wanted.
    `tokens` names the file in which a token for each of `audiences` is kept fresh.

    `sandbox` None or off puts no walls around it; else it may write `writes`, of which the first is
    its own folder, and read `reads` and libraries, but for what lies in the `hidden` folders,
    where it sees the names alone in `lists`.
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
    watch: tuple[str, ...] = ()
    addresses: dict[str, str] = {}
    depends_on: dict[str, Dependency] = {}
    restart: RestartPolicy = RestartPolicy()
    stop_signal: str = "SIGTERM"
    stop_grace_s: float = 10.0
    start_timeout_s: float = 10.0
    health: Healthcheck | None = None
    tokens: str | None = None
    audiences: tuple[str, ...] = ()
    sandbox: Sandbox | None = None
    writes: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()


FaultKind = Literal["kill", "pause", "latency", "error", "drop", "dup", "reorder"]


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
    history: tuple[int, ...] | None = None
    """Requests answered in each of the last seconds, oldest first; at most HISTORY_S of them."""
    asks: tuple[Asks, ...] | None = None
    hears: tuple[Hears, ...] | None = None
    tells: Tells | None = None
    dropped: int | None = None
    """Spans and log lines that it could not write, since it started."""
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


class Unmet(Struct, frozen=True, kw_only=True):
    """One thing a program waits for before its first start."""

    name: str
    condition: str
    state: State
    cause: str


class LastProbe(Struct, frozen=True, kw_only=True):
    """What the health question brought last. `misses`: bad answers in a row, once it was ready."""

    question: str
    ok: bool
    answer: str
    ago_s: float
    misses: int


class LastExit(Struct, frozen=True, kw_only=True):
    """How the process before ended. `at` is RFC 3339, `lasted_s` from its start."""

    how: str
    at: str
    lasted_s: float


class Explanation(Struct, frozen=True, kw_only=True):
    """Why a program is in its state. Unknown values and those that do not apply are None.

    Attributes:
        for_s: how long it has been in this state.
        waits_for: what keeps it from its first start.
        next_try_in_s: of a program in `backoff`.
        failures: of the last minute; `failures_max` of them mean `failed`.
        lines: its last log lines.
    """

    schema: str = "mesh.explain/1"
    name: str
    state: State
    desired: Literal["up", "down"]
    cause: str
    for_s: float
    pid: int | None = None
    uptime_s: float | None = None
    restarts: int = 0
    waits_for: tuple[Unmet, ...] = ()
    next_try_in_s: float | None = None
    failures: int = 0
    failures_max: int | None = None
    probe: LastProbe | None = None
    last_exit: LastExit | None = None
    port: int | None = None
    url: str | None = None
    log: str
    lines: tuple[str, ...] = ()


class Lease(Struct, frozen=True, kw_only=True):
    """What it takes to run a program in another place: as in `Program`, everything filled in."""

    entry: str | None
    args: tuple[str, ...]
    command: tuple[str, ...] | None
    environment: dict[str, str]
    working_dir: str


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

    def explain(self, name: str) -> Explanation:
        """Why one program is in its state."""

    def lend(self, name: str) -> Lease:
        """Stop a program so that the caller may be it, until it gives that back.

        The remote answers with a context: the program is started again at its end, or once the
        process has died. Raises: Conflict when it is lent already.
        """

    def hold(self, names: Sequence[str], why: str) -> list[str]:
        """Stop programs and keep them so, until the caller gives them back; who runs again then.

        The remote answers with a context, as `lend` does. Raises: Conflict when one is lent.
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
