"""`mesh up`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from mesh import clock, codec
from mesh.commands import detach, output
from mesh.commands.programs import Programs, chosen
from mesh.commands.progress import Progress
from mesh.commands.project import Project, check_names
from mesh.commands.screen import Screen
from mesh.commands.verb import services_argument, verb
from mesh.errors import AlreadyRunning, DeadlineExceeded, ProgramFailed
from mesh.orchestrator import state
from mesh.orchestrator.host import supervise

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mesh.orchestrator.contract import Outcome, Status, Transition

WAIT_S = 60.0
"""Default for everything to be ready: five failed starts of one program take no longer."""

FAILED = 5
EVIDENCE_LINES = 15


class _Mesh:
    """One mesh to be run, in this process or in one of its own."""

    def __init__(
        self, project: Project, start: Sequence[str], *, free_ports: bool, watch: bool
    ) -> None:
        self._project = project
        self._watch = watch
        self._programs = Programs(project)
        self._start = start
        self._free_ports = free_ports
        self._mint: Callable[[str, str], str] | None = None

    def run(
        self,
        *,
        linger: bool,
        on_change: Callable[[Mapping[str, object]], None],
    ) -> Outcome:
        """Be the supervisor until the mesh ends. Under its lock files are written first."""

        def changed(change: Status | Transition) -> None:
            if self._mint is None:
                self._mint = self._programs.prepare()
            on_change(codec.plain(change))

        config = self._project.config
        return supervise(
            self._programs.all,
            project=config.name,
            data_dir=self._project.data,
            config_file=config.file,
            mint=self._token,
            start=self._start,
            preload=self._programs.preload,
            free_ports=self._free_ports,
            linger=linger,
            watch=self._watch,
            on_change=changed,
        )

    def _token(self, subject: str, audience: str) -> str:
        assert self._mint is not None  # the socket is served after the first status
        return self._mint(subject, audience)


def _refuse_second(project: Project) -> None:
    """Answer at once when a mesh runs here; the lock decides when two begin together."""
    run = state.running(project.data)
    if run is not None:
        raise AlreadyRunning(
            f"a mesh runs here already (pid {run['pid']})",
            hint="mesh start SERVICE starts one of its services; mesh down stops it",
        )


def _failure(progress: Progress) -> ProgramFailed:
    """What failed first, with its last log lines; the others keep serving."""
    (name, cause), *others = progress.failed.items()
    rest = f"; so has {', '.join(other for other, _ in others)}" if others else ""
    return ProgramFailed(
        f"{name} has failed: {cause}{rest}",
        evidence=progress.evidence[name][-EVIDENCE_LINES:],
        hint=f"mesh logs {name}; the others keep serving; mesh down stops them",
    )


def _in_background(
    mesh: _Mesh, project: Project, progress: Progress, *, wait_s: float | None
) -> None:
    """Fork, and follow the start until everything is settled.

    Raises: ProgramFailed, DeadlineExceeded; what kept the mesh from beginning.
    """

    def work(all_is_well: Callable[[], None]) -> None:
        mesh.run(linger=True, on_change=lambda _: all_is_well())

    detach.begin(work, project.logs / "mesh.log")
    if wait_s is None:
        output.note("the mesh has begun   ready: mesh wait   stop: mesh down")
        return
    try:
        for said in project.remote().watch(wait_s):
            progress.take(said)
            if not progress.pending:
                break
    except DeadlineExceeded:
        raise DeadlineExceeded(
            f"not ready within {wait_s:g} s: {', '.join(progress.pending)}",
            hint=f"mesh logs {progress.pending[0]}; the mesh keeps trying, mesh down stops it",
        ) from None
    if progress.pending:
        raise ProgramFailed("the mesh ended while it began", hint="mesh logs mesh -n 20")
    if progress.failed:
        raise _failure(progress)
    progress.summary("mesh down")


def _in_foreground(mesh: _Mesh, project: Project, progress: Progress, names: Sequence[str]) -> int:
    """Be the mesh, and show what it does, until it is stopped."""
    told = False

    def change(said: Mapping[str, object]) -> None:
        nonlocal told
        progress.take(said)
        if said.get("new") == "failed":
            output.failure(_failure(progress))
        elif not told and not progress.pending and not progress.failed:
            told = True
            progress.summary("Ctrl-C (a second one kills)")

    paths = {name: project.logs / f"{name}.log" for name in project.programs}
    screen = Screen(names, paths, change)
    outcome = None
    try:
        outcome = mesh.run(linger=False, on_change=screen.changed)
    finally:
        shown = screen.end(codec.plain(outcome.stopped) if outcome else ())
    code = FAILED if outcome.failed else 0
    if not shown:
        os._exit(code)  # an orderly exit would wait for the one that the terminal holds
    return code


@verb(
    "mesh up",
    "mesh up -d && mesh call order create",
    "mesh up product",
    "mesh -p two up -d --free-ports",
)
@services_argument
@click.option("-d", "--detach", "detached", is_flag=True, help="Return when everything is ready.")
@click.option("--wait/--no-wait", default=None, help="Wait with -d until all is ready (it does).")
@click.option(
    "--wait-timeout",
    "wait_s",
    type=click.FloatRange(0.1, 3600),
    default=WAIT_S,
    metavar="S",
    help="Seconds to wait for that (60); exit code 4.",
)
@click.option("--no-deps", is_flag=True, help="Only what is named, not what it needs.")
@click.option("--plain", is_flag=True, help="Log lines instead of a dashboard (as now always).")
@click.option("--free-ports", is_flag=True, help="Take any free ports instead of those configured.")
@click.option("--watch", is_flag=True, help="Restart a service when its files change.")
@click.pass_context
def command(
    ctx: click.Context,
    *,
    services: tuple[str, ...],
    detached: bool,
    wait: bool | None,
    wait_s: float,
    no_deps: bool,
    plain: bool,  # noqa: ARG001  (taken already, so that scripts may say it)
    free_ports: bool,
    watch: bool,
) -> int:
    """Start services and what they need: what they depend on and whom they call.

    In the foreground it shows their logs; Ctrl-C stops everything, a second one kills.
    """
    begun_s = clock.monotonic_s()
    project = Project.of(ctx)
    check_names(services, project.programs)
    names = chosen(project.config, services, no_deps=no_deps)
    _refuse_second(project)
    any_port = free_ports or project.env.get("MESH_FREE_PORTS") == "1"
    mesh = _Mesh(project, names, free_ports=any_port, watch=watch)
    os.umask(0o077)
    project.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    progress = Progress(names, begun_s)
    if detached or wait:
        _in_background(mesh, project, progress, wait_s=None if wait is False else wait_s)
        return 0
    return _in_foreground(mesh, project, progress, names)
