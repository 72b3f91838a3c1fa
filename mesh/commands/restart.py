"""`mesh restart`."""

from __future__ import annotations

import click

from mesh import clock
from mesh.commands import output
from mesh.commands.project import Project
from mesh.commands.verb import named_services_argument, verb


@verb("mesh restart order", "mesh restart order product")
@named_services_argument
@click.pass_context
def command(ctx: click.Context, *, services: tuple[str, ...]) -> None:
    """Stop and start services; returns when they are up again.

    Their sockets stay open meanwhile: callers wait instead of being refused.
    """
    project = Project.of(ctx)
    project.check_services(services)
    begun_s = clock.monotonic_s()
    project.remote().restart(services)
    output.note(f"{', '.join(services)} ready again in {clock.monotonic_s() - begun_s:.1f} s")
