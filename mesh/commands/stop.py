"""`mesh stop`."""

from __future__ import annotations

import click

from mesh.commands import output
from mesh.commands.project import Project
from mesh.commands.stopped import report
from mesh.commands.verb import named_services_argument, verb


@verb("mesh stop order", "mesh stop order product")
@named_services_argument
@click.pass_context
def command(ctx: click.Context, *, services: tuple[str, ...]) -> None:
    """Stop services; the others go on, and callers are refused at once."""
    project = Project.of(ctx)
    project.check_services(services)
    report(project.remote().stop(services))
    output.note(("hint:", "cyan"), f" mesh start {' '.join(services)}")
