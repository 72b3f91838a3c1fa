"""What others know of the streams of a file, and where the two part: asked of the bus, or read.

The bus is asked where it runs, and its log read where it does not. What is not known by anybody
but the file that is replaced can be nobody else's cursor, unless the bus was killed amid a commit
and the producer has not run since.
"""

from __future__ import annotations

import contextlib
from functools import cached_property, partial
from typing import TYPE_CHECKING

from mesh import bus, codec
from mesh.bus import ORIGIN, Epoch, Link, Others, OutboxState
from mesh.commands import archive, http
from mesh.commands.operations import items, members
from mesh.configs.check import BUS
from mesh.errors import MeshError, ServiceUnavailable
from mesh.framework import history

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mesh.commands.project import Project
    from mesh.orchestrator.remote import Remote

ASK_S = 5.0
OK = 200

Lineages = dict[str, tuple[Epoch, ...]]


class Log:
    """What the bus has of every stream."""

    def __init__(self, project: Project, remote: Remote | None) -> None:
        """`remote` None: the bus does not run, and cannot be started meanwhile."""
        self._url = project.config.bus
        self._file = bus.log_file(self._url, project.data / BUS) if self._url else None
        self._remote = remote
        self._base = "" if remote is None else project.running().urls.get(BUS, "")

    @cached_property
    def states(self) -> dict[str, OutboxState]:
        """Every stream as it has it. Raises: ServiceUnavailable, LogBroken."""
        if self._file is None:
            return {}
        if self._remote is None:
            return bus.states(self._url, self._file.parent)
        return {
            str(members(row)["stream"]): codec.convert(row, OutboxState)
            for row in items(self._ask("/streams").get("streams"))
        }

    def link(self, stream: str, seq: int) -> Link | None:
        """What it has at one number. Raises: ServiceUnavailable, LogBroken."""
        if self._remote is not None:
            found = self._ask(f"/streams/{stream}/{seq}")["link"]
            return None if found is None else codec.convert(found, Link)
        if self._file is None or not self._file.exists():
            return None
        return bus.link(self._url, self._file, stream, seq)

    def _ask(self, target: str) -> dict[str, object]:
        assert self._remote is not None
        headers = {"Authorization": f"Bearer {self._remote.token('operator', BUS)}"}
        try:
            answer = http.ask(self._base, "GET", target, headers=headers, timeout_s=ASK_S)
        except http.ConnectionRefused:
            raise ServiceUnavailable("the bus does not run", hint="mesh start bus") from None
        if answer.status != OK:
            raise ServiceUnavailable(f"the bus answered {answer.status}", hint="mesh logs bus")
        return members(answer.body)


def lineages_in(name: str, file: Path, bus_url: str) -> Lineages:
    """The epochs that a file has; none of one that is not there or cannot be read."""
    with contextlib.suppress(MeshError):
        if file.exists() and name == archive.HOSTED:
            return {each: found.epochs for each, found in bus.guests(bus_url, file).items()}
        if file.exists():
            return {name: history.read(file).epochs}
    return {}


def others(log: Log, name: str, file: Path, bus_url: str, old: Lineages) -> dict[str, Others]:
    """What others know of each stream of a file, and up to where it is the same.

    Args:
        old: the epochs of the file that it replaces.
    """
    if name == archive.HOSTED:
        heads = {each: found.head.seq for each, found in bus.guests(bus_url, file).items()}
    else:
        heads = {name: history.read(file).head.seq}
    found: dict[str, Others] = {}
    for stream, head in heads.items():
        theirs = log.states.get(stream, OutboxState((), ORIGIN, 1))
        differs = bus.shared(
            _own(name, file, bus_url, stream),
            partial(log.link, stream),
            min(head, theirs.head.seq),
        )
        found[stream] = Others((*theirs.epochs, *old.get(stream, ())), differs)
    return found


def _own(name: str, file: Path, bus_url: str, stream: str) -> Callable[[int], Link | None]:
    if name == archive.HOSTED:
        return lambda seq: bus.link(bus_url, file, stream, seq)
    return lambda seq: history.link_at(file, seq)
