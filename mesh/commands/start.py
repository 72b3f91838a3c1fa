"""`mesh start`."""

from __future__ import annotations

import click

from mesh.commands import output
from mesh.commands.project import Project
from mesh.commands.verb import named_services_argument, verb


@verb("mesh start order", "mesh start order && mesh wait order")
@named_services_argument
@click.pass_context
def command(ctx: click.Context, *, services: tuple[str, ...]) -> None:
    """Start services that are stopped or have failed, and what they depend on.

    Returns at once; `mesh wait` waits until they are ready.
    """
    project = Project.of(ctx)
    project.check_services(services)
    project.remote().start(services)
    output.note(f"starting {', '.join(services)}")
