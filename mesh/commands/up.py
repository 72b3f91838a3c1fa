"""`mesh up`."""

from __future__ import annotations

import click

from mesh import clock
from mesh.commands.begin import WAIT_S, in_background, in_foreground, refuse_second
from mesh.commands.options import Asked
from mesh.commands.project import Project
from mesh.commands.verb import Seconds, services_argument, verb


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
    type=Seconds(0.1, 3600),
    default=WAIT_S,
    metavar="S",
    help="Seconds to wait for that (60); exit code 4.",
)
@click.option("--no-deps", is_flag=True, help="Only what is named, not what it needs.")
@click.option("--plain", is_flag=True, help="Log lines instead of the dashboard.")
@click.option("--free-ports", is_flag=True, help="Take any free ports instead of those configured.")
@click.option("--watch", is_flag=True, help="Restart a service when its files change.")
@click.option("--no-sandbox", is_flag=True, help="Run every program without walls around it.")
@click.pass_context
def command(
    ctx: click.Context,
    *,
    services: tuple[str, ...],
    detached: bool,
    wait: bool | None,
    wait_s: float,
    no_deps: bool,
    plain: bool,
    free_ports: bool,
    watch: bool,
    no_sandbox: bool,
) -> int:
    """Start services and what they need: what they depend on and whom they call.

    On a terminal it shows the dashboard, else (or with --plain) their logs. Ctrl-C stops
    everything, a second one kills.
    """
    begun_s = clock.monotonic_s()
    project = Project.of(ctx)
    refuse_second(project)
    any_port = free_ports or project.env.get("MESH_FREE_PORTS") == "1"
    asked = Asked(services, no_deps, any_port, watch, no_sandbox)
    if detached or wait:
        in_background(project, asked, begun_s, wait_s=None if wait is False else wait_s)
        return 0
    return in_foreground(project, asked, begun_s, plain=plain)
