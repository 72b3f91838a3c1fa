"""A mesh begun, in this process or in one of its own, and its start followed.

The starter is executed first of all, and imports while the configuration is read: it takes longest.
So this module imports little by itself.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from mesh.commands import detach, output, space
from mesh.errors import AlreadyRunning, DeadlineExceeded, MeshError, ProgramFailed
from mesh.orchestrator import logs, state
from mesh.orchestrator.ignition import ignite

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from mesh.commands.options import Asked
    from mesh.commands.progress import Progress
    from mesh.commands.project import Project
    from mesh.orchestrator.ignition import Ignited

WAIT_S = 60.0
"""Default for everything to be ready: five failed starts of one program take no longer."""

AWAITED: tuple[tuple[output.Part, ...], ...] = (
    (("mesh", "strong"), ("  begins", "faint")),
    (("reading the configuration", "faint"),),
)
"""Shown on a terminal before anything is known."""

FAILED = 5
EVIDENCE_LINES = 15

USUAL = (
    *("mesh.buses.zmq.client", "mesh.buses.zmq.program"),
    *("mesh.framework.process", "mesh.databases.sqlite"),
)
"""What nearly every mesh preloads; another one has its starter replaced when that is known."""


def refuse_second(project: Project) -> None:
    """Answer at once when a mesh runs here; the lock decides when two begin together."""
    run = state.running(project.data)
    if run is not None:
        raise AlreadyRunning(
            f"a mesh runs here already (pid {run['pid']})",
            hint="mesh start SERVICE starts one of its services; mesh down stops it",
        )


@contextlib.contextmanager
def _ignited() -> Iterator[Ignited]:
    """A starter that begins now, and ends with the mesh or with what keeps it from beginning."""
    ignited = ignite(USUAL)
    try:
        yield ignited
    finally:
        ignited.quench()


def _failure(project: Project, progress: Progress) -> ProgramFailed:
    """What failed first, with its last log lines, which a full disk takes none of."""
    (name, cause), *others = progress.failed.items()
    rest = f"; so has {', '.join(other for other, _ in others)}" if others else ""
    full = space.lacking(project.data)
    return ProgramFailed(
        f"{name} has failed: {cause}{rest}{f'; {full}' if full else ''}",
        evidence=progress.evidence[name][-EVIDENCE_LINES:],
        hint=space.WAY_OUT
        if full
        else f"mesh logs {name}; the others keep serving; mesh down stops them",
    )


def in_background(project: Project, asked: Asked, begun_s: float, *, wait_s: float | None) -> None:
    """Fork, and follow the start until everything is settled.

    Raises: ProgramFailed, DeadlineExceeded; what kept the mesh from beginning.
    """

    def work(channel: detach.Channel) -> None:
        with _ignited() as ignited:
            from mesh.commands.hosting import Mesh  # noqa: PLC0415  (the starter imports meanwhile)

            mesh = Mesh(project, asked)
            channel.leave_terminal(project.logs / "mesh.log")
            mesh.run(ignited, linger=True, on_change=lambda _: channel.say({"names": mesh.names}))

    told = detach.begin(work)
    if wait_s is None:
        output.note("the mesh has begun   ready: mesh wait   stop: mesh down")
        return
    from mesh.commands.progress import Progress  # noqa: PLC0415  (likewise)

    names = told["names"]
    assert isinstance(names, list)
    progress = Progress(names, begun_s)
    try:
        for said in project.remote().watch(wait_s):
            progress.take(said)
            if not progress.pending:
                break
    except DeadlineExceeded:
        full = space.lacking(project.data)
        raise DeadlineExceeded(
            f"not ready within {wait_s:g} s: {', '.join(progress.pending)}"
            f"{f'; {full}' if full else ''}",
            hint=space.WAY_OUT
            if full
            else f"mesh explain {progress.pending[0]}; the mesh keeps trying, mesh down stops it",
        ) from None
    if progress.pending:
        raise ProgramFailed("the mesh ended while it began", hint="mesh logs mesh -n 20")
    if progress.failed:
        _ask_for_evidence(project, progress)
        raise _failure(project, progress)
    progress.summary("mesh down")


def _ask_for_evidence(project: Project, progress: Progress) -> None:
    """Whatever failed before anybody watched: its last lines are asked for."""
    name = next(iter(progress.failed))
    if not progress.evidence[name]:
        with contextlib.suppress(MeshError):
            lines = project.remote().explain(name)["lines"]
            progress.evidence[name] = tuple(map(str, lines)) if isinstance(lines, list) else ()


def in_foreground(project: Project, asked: Asked, begun_s: float, *, plain: bool) -> int:
    """Be the mesh, and show what it does, until it is stopped; the exit code."""
    with _ignited() as ignited:
        with output.Live() as awaited:
            if not plain:
                awaited.show(AWAITED)
            from mesh import codec  # noqa: PLC0415  (the starter imports meanwhile)
            from mesh.commands.hosting import Mesh  # noqa: PLC0415  (likewise)
            from mesh.commands.pictured import Picture  # noqa: PLC0415  (likewise)
            from mesh.commands.progress import Progress  # noqa: PLC0415  (likewise)
            from mesh.commands.screen import Screen  # noqa: PLC0415  (likewise)

            mesh = Mesh(project, asked)
        picture = Picture(project, mesh.names, begun_s) if output.drawable() and not plain else None
        progress = Progress(mesh.names, begun_s)
        told = False

        def change(said: Mapping[str, object]) -> None:
            nonlocal told
            progress.take(said)
            if said.get("new") == "failed":
                output.failure(_failure(project, progress))
            elif not told and not progress.pending and not progress.failed:
                told = True
                progress.summary("Ctrl-C (a second one kills)")

        paths = {name: project.logs / f"{name}.log" for name in project.programs}
        screen = Screen(mesh.names, paths, change, held=picture)
        outcome = None
        try:
            outcome = mesh.run(ignited, linger=False, on_change=screen.changed)
        finally:
            shown = screen.end(codec.plain(outcome.stopped) if outcome else ())
    if shown and screen.pictured:
        for name in outcome.failed:
            output.failure(_failed(name, paths[name]))
    code = FAILED if outcome.failed else 0
    if not shown:
        os._exit(code)  # an orderly exit would wait for the one that the terminal holds
    return code


def _failed(name: str, log: Path) -> ProgramFailed:
    """What nobody has printed yet, as the dashboard showed it."""
    return ProgramFailed(
        f"{name} has failed",
        evidence=logs.last_lines(log, EVIDENCE_LINES),
        hint=f"mesh logs {name} -n 50",
    )
