"""`mesh down`."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

import click

from mesh.commands import output
from mesh.commands.project import Project
from mesh.commands.stopped import report
from mesh.commands.verb import Seconds, verb
from mesh.configs.locate import NAME
from mesh.errors import NotRunning, WrongUsage
from mesh.orchestrator import state

if TYPE_CHECKING:
    from pathlib import Path

OWN_FOLDERS = ("bus", "logs", "run")
"""What a mesh keeps in its data directory beside a folder for each service; the lock's last."""


def _allowed(data: Path, *, yes: bool) -> None:
    """Be sure that everything may be deleted. Raises WrongUsage."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise WrongUsage(
            f"-v deletes everything in {data}, and nobody can be asked here",
            code="needs-yes",
            hint="mesh down -v --yes",
        )
    if not output.confirm(f"Delete all data in {data}?"):
        raise click.Abort


def _delete(project: Project) -> None:
    """Delete this mesh's own folders, under its lock; other meshes' folders inside stay.

    Raises: AlreadyRunning when another has been started meanwhile.
    """
    data = project.data
    names = [*project.config.services, *OWN_FOLDERS]
    found = [data / name for name in names if NAME.fullmatch(name)]
    found = [folder for folder in found if folder.is_dir() and not folder.is_symlink()]
    if found:
        (data / "run").mkdir(mode=0o700, exist_ok=True)
        with state.locked(data, "its data is being deleted"):
            for folder in found:
                shutil.rmtree(folder)
    output.note(f"deleted {', '.join(folder.name for folder in found) or 'nothing'} in {data}")


@verb("mesh down", "mesh down -t 2", "mesh down -v --yes")
@click.option("-v", "--volumes", is_flag=True, help="Delete this mesh's data too; asks first.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option(
    "-t",
    "--timeout",
    "timeout_s",
    type=Seconds(0, 3600),
    metavar="S",
    help="Kill what has not stopped after S seconds.",
)
@click.pass_context
def command(ctx: click.Context, *, volumes: bool, yes: bool, timeout_s: float | None) -> None:
    """Stop everything, level by level, and say how each program ended."""
    project = Project.of(ctx)
    if volumes:
        _allowed(project.data, yes=yes)
        _ = project.config  # before anything stops: its names say what is deleted
    try:
        report(project.remote().down(timeout_s))
    except NotRunning as nothing:
        output.note(nothing.detail)
    if volumes:
        _delete(project)
