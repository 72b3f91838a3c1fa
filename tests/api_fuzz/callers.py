"""Who asks: a token for each name that an operation's `security` lets in, and for others."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from mesh.orchestrator.remote import Remote
    from tests.support.running import RunningMesh

PEOPLE = {"customer": ("alice", "bob"), "staff": ("sam",), "admin": ("ada",)}
SERVICES = ("auth", "user", "product", "order")
OPERATOR, ANYONE = "operator", ""

OWN_S = 30.0
"""A service's and the operator's token lives for a minute."""

USER_S = 300.0
"""A user's lives for ten."""


def remote(folder: Path) -> Remote:
    from mesh.orchestrator.remote import Remote

    return Remote.find(folder / "data")


@dataclass
class Callers:
    """Tokens by who and for whom, made anew before they end or once they have been refused."""

    mesh: RunningMesh
    _held: dict[tuple[str, str], tuple[float, str]] = field(default_factory=dict)

    def welcome(self, security: list[dict[str, list[str]]]) -> list[str]:
        """Everybody who may call."""
        found = []
        for asked in security:
            for scheme, scopes in asked.items() or [(ANYONE, [])]:
                if scheme == "user":
                    found += [who for role in scopes or PEOPLE for who in PEOPLE[role]]
                elif scheme == "service":
                    found += scopes
                else:
                    found.append(scheme)
        return sorted({*found})

    @property
    def all(self) -> list[str]:
        """Everybody there is."""
        return [ANYONE, OPERATOR, *SERVICES, *(who for each in PEOPLE.values() for who in each)]

    def token(self, who: str, audience: str) -> str | None:
        """The token to show, None for nobody's."""
        if who == ANYONE:
            return None
        own = who == OPERATOR or who in SERVICES
        place = (who, audience if own else "")
        made_s, text = self._held.get(place, (0.0, ""))
        if not text or time.monotonic() - made_s > (OWN_S if own else USER_S):
            text = self._new(who, audience) if own else self._acting_as(who)
            self._held[place] = time.monotonic(), text
        return text

    def forget(self, who: str) -> None:
        """What was held is not taken any more."""
        self._held = {place: held for place, held in self._held.items() if place[0] != who}

    def _new(self, who: str, audience: str) -> str:
        return remote(self.mesh.directory).token(who, audience)

    def _acting_as(self, who: str) -> str:
        operator = self.token(OPERATOR, "user")
        answer = self.mesh.ask("user", "POST", "/sessions/act-as", {"login": who}, token=operator)
        assert answer.status == 201, f"nobody can act as {who}: {answer}"
        return str(answer.body["access_token"])
