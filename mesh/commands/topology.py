"""Who asks whom and who tells whom, from the services' tables and their configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mesh.commands import tables
from mesh.framework import identity

if TYPE_CHECKING:
    from mesh.commands.project import Project
    from mesh.framework import Moves
    from mesh.framework.agreement import Shop


@dataclass(frozen=True)
class Asks:
    """One service may ask another; `operations` are those it does ask, as far as tables tell."""

    source: str
    target: str
    operations: tuple[str, ...]


@dataclass(frozen=True)
class Told:
    """One event, who tells it and who hears it."""

    event: str
    source: str
    heard_by: tuple[str, ...]


@dataclass(frozen=True)
class Topology:
    """Everything that is drawn."""

    services: tuple[str, ...]
    asks: tuple[Asks, ...]
    tells: tuple[Told, ...]


def topology(project: Project) -> Topology:
    """Of the configured services. Raises: InvalidInput, Broken (a module or its table)."""
    shop = tables.shop(project)
    hears = {name: [row.event for row in shop.listeners(name)] for name in shop.tables}
    told = {row.event: name for name, table in shop.tables.items() for row in table.tells}
    strange = [event for events in hears.values() for event in events if event not in told]
    told |= {event: event.partition(".")[0] for event in strange}
    return Topology(
        tuple(shop.may_ask),
        tuple(
            Asks(source, target, _operations(shop, source, target))
            for source in shop.may_ask
            for target in project.config.services[source].calls
        ),
        tuple(
            Told(event, source, tuple(name for name in hears if event in hears[name]))
            for event, source in told.items()
        ),
    )


def _operations(shop: Shop, source: str, target: str) -> tuple[str, ...]:
    if source not in shop.tables:
        return ()
    owner = shop.tables.get(target)
    names = {row.route: row.name for row in owner.operations} if owner else {}
    asked = [call for call in shop.asks(source) if call.service == target]
    last = [call for call in asked if call is identity.JWKS]  # every service's, so no news
    return tuple(names.get(call.route, call.route) for call in asked if call not in last) + tuple(
        names.get(call.route, call.route) for call in last
    )


def moves(project: Project) -> dict[str, tuple[str, Moves]]:
    """The tables of moves by their entity, with the service that owns it. Raises: likewise."""
    return {
        each.entity: (name, each)
        for name, table in tables.shop(project).tables.items()
        for each in table.moves
    }
