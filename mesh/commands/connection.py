"""How a command reaches the running mesh's bus, and as whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh import bus
from mesh.configs.check import BUS
from mesh.errors import NotRunning, WrongUsage

if TYPE_CHECKING:
    from collections.abc import Callable

    from mesh.commands.project import Project

READER = "cli"
"""What we call ourselves at the bus."""

DOWN = ("stopped", "failed")
"""States of the bus's program in which there is no use in trying to reach it."""


def stopped() -> NotRunning:
    """The error when there is no bus to be asked."""
    return NotRunning("the bus does not run", code="bus-stopped", hint="mesh start bus")


def client_url(project: Project) -> str:
    """Where the running mesh's bus is reached. Raises NotRunning, WrongUsage."""
    status = project.remote().status()
    url = project.config.bus
    if not url:
        raise WrongUsage("this mesh has no bus", hint="add `bus: zmq://` to the configuration")
    if any(row["name"] == BUS and row["state"] in DOWN for row in status["services"]):
        raise stopped()
    broker = bus.program(url, directory=project.data / "bus", sockets=project.sockets / BUS)
    return broker.client_url if broker else url


def reader_token(project: Project) -> Callable[[], str]:
    """Makes the token by which the bus lets the operator read."""
    return lambda: project.remote().token("operator", bus.AUDIENCE)
