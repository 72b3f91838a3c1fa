"""Ids that answers have shown, to be asked about again: what makes a run stateful across services.

OpenAPI links stay within one document; an order's lines name products, and a hold an order.
"""

from __future__ import annotations

import re
from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

ID = re.compile(r"([a-z]{3})_[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")

KEPT_MAX = 32
"""Of each kind, the youngest: entities that still move."""

REFRESH = "refresh_token"

SEEDED_PEOPLE = re.compile(r"usr_00000000-0000-7000-8000-0000000000[0-9a-f]{2}")
"""Never put into a request that changes anything: a run would suspend and erase its own callers."""

NOBODY = "usr_00000000-0000-7000-8000-0000000fffff"


@dataclass
class Pool:
    """The ids by prefix, and the versions last seen of each."""

    ids: dict[str, deque[str]] = field(
        default_factory=lambda: defaultdict(lambda: deque(maxlen=KEPT_MAX))
    )
    etags: dict[str, str] = field(default_factory=dict)
    refresh_tokens: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT_MAX))

    def learn(self, value: object) -> None:
        """Take every id, and what a session goes on with, out of an answer."""
        if isinstance(value, dict):
            for name, each in value.items():
                self.learn(each)
                if name == REFRESH:
                    self.refresh_tokens.append(each)
        elif isinstance(value, list):
            for each in value:
                self.learn(each)
        elif isinstance(value, str) and (match := ID.fullmatch(value)):
            kept = self.ids[match.group(1)]
            if value not in kept and not SEEDED_PEOPLE.fullmatch(value):
                kept.append(value)

    def spared(self, value: object) -> object:
        """The same with the seeded people replaced by nobody."""
        if isinstance(value, dict):
            return {name: self.spared(each) for name, each in value.items()}
        if isinstance(value, list):
            return [self.spared(each) for each in value]
        return NOBODY if isinstance(value, str) and SEEDED_PEOPLE.fullmatch(value) else value

    def known(self, value: object, chance: Random) -> object:
        """The same with made-up ids replaced by known ones of their kind."""
        if isinstance(value, dict):
            found = {name: self.known(each, chance) for name, each in value.items()}
            if REFRESH in found and self.refresh_tokens:
                found[REFRESH] = self.refresh_tokens.pop()
            return found
        if isinstance(value, list):
            return [self.known(each, chance) for each in value]
        if isinstance(value, str) and re.fullmatch(r"[a-z]{3}_[0-9a-f-]{36}", value):
            kept = self.ids.get(value[:3])
            return chance.choice(list(kept)) if kept else value
        return value
