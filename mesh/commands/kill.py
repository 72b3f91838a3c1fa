"""`mesh kill`."""

from __future__ import annotations

import signal

import click

from mesh.commands import output
from mesh.commands.project import Project
from mesh.commands.verb import named_services_argument, verb
from mesh.configs.complaints import suggestion
from mesh.errors import WrongUsage


def signal_name(text: str) -> str:
    """`SIGKILL` for `SIGKILL`, `kill` and `9`. Raises WrongUsage."""
    if text.isdecimal() and int(text) in signal.valid_signals():
        return signal.Signals(int(text)).name
    name = text.upper() if text.upper().startswith("SIG") else f"SIG{text.upper()}"
    if name not in signal.Signals.__members__:
        near = suggestion(name, signal.Signals.__members__)
        raise WrongUsage(f"there is no signal `{text}`{near}", hint="for example: mesh kill -s INT")
    return name


@verb("mesh kill order", "mesh kill -s STOP order", "mesh kill -s CONT order")
@click.option("-s", "--signal", "number", default="SIGKILL", metavar="SIG", help="Which (KILL).")
@named_services_argument
@click.pass_context
def command(ctx: click.Context, *, number: str, services: tuple[str, ...]) -> None:
    """Send a signal to services and all their processes.

    What is killed like this is started again without delay; it counts as no crash.
    """
    name = signal_name(number)
    project = Project.of(ctx)
    project.check_services(services)
    project.remote().kill(services, name)
    output.note(f"sent {name} to {', '.join(services)}")
