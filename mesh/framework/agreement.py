"""Whether services that ask and hear one another agree: tables and configuration, nothing run.

Each service declares in its own words what it sends and reads. Here that is held against the
table of the service it means; a program that has no table is left out, for nothing is known of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import NoneType
from typing import TYPE_CHECKING

from mesh.framework import identity
from mesh.framework.compatibility import READ, SENT, misread_type
from mesh.framework.service import Listener, Service

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mesh.client import Call


@dataclass(frozen=True)
class Shop:
    """Services that run together.

    Attributes:
        tables: of those that have one, by name.
        may_ask: the `calls:` of every service of the configuration.
    """

    tables: Mapping[str, Service]
    may_ask: Mapping[str, frozenset[str]]

    def listeners(self, name: str) -> tuple[Listener, ...]:  # type: ignore[type-arg]
        """What a service hears, also in its name by the framework."""
        own = self.tables[name].listeners
        if identity.ISSUER not in self.may_ask[name]:
            return own
        return (
            *own,
            Listener("auth.keys_changed", identity.keep_keys, identity.KeySet),
            Listener("auth.session_revoked", identity.keep_revoked, identity.Revoked),
        )

    def asks(self, name: str) -> tuple[Call, ...]:  # type: ignore[type-arg]
        """What it asks, likewise."""
        own = self.tables[name].asks
        return (*own, identity.JWKS) if identity.ISSUER in self.may_ask[name] else own


def disagreements(shop: Shop) -> list[str]:
    """Everything that would fail once they meet; each begins with who means whom."""
    found = []
    for name in shop.tables:
        found += [*_misheard(shop, name), *_misasked(shop, name), *_strangers(shop, name)]
    return found


def _misheard(shop: Shop, name: str) -> Iterator[str]:
    for row in shop.listeners(name):
        place = f"{name} hears {row.event}"
        owner = shop.tables.get(row.stream)
        told = [each for each in owner.tells if each.event == row.event] if owner else []
        if told:
            yield from misread_type(told[0].data, row.reads, place, READ)
        elif owner or row.stream not in shop.may_ask:
            yield f"{place}: nobody tells it"


def _misasked(shop: Shop, name: str) -> Iterator[str]:
    for call in shop.asks(name):
        place = f"{name} asks {call.service} {call.route}"
        if call.service not in shop.may_ask[name]:
            yield f"{place}: not in `calls:`"
        owner = shop.tables.get(call.service)
        asked = [row for row in owner.operations if row.route == call.route] if owner else []
        if not asked:
            if owner or call.service not in shop.may_ask:
                yield f"{place}: no such route"
            continue
        allow = asked[0].allow
        if not (allow.anyone or name in allow.services):
            yield f"{place}: not allowed"
        yield from misread_type(call.takes, asked[0].takes, f"{place}: sent", SENT)
        if call.gives is not NoneType:
            yield from misread_type(asked[0].gives, call.gives, f"{place}: read", READ)


def _strangers(shop: Shop, name: str) -> Iterator[str]:
    for row in shop.tables[name].operations:
        for caller in row.allow.services:
            if name not in shop.may_ask.get(caller, {name}):  # who is not here asks nobody
                yield f"{caller} may ask {name} {row.name}: not in its `calls:`"
