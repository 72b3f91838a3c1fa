from __future__ import annotations

import pytest

from mesh.framework import Caller
from mesh.services.auth.service import service
from tests.services.in_process import Clock, room

USER = Caller("service", "user")


@pytest.fixture
async def auth(tmp_path):
    """The real auth, with a new database."""
    async with room(service, tmp_path) as made:
        yield made


@pytest.fixture
def wall(monkeypatch):
    """Wall time that stands still until it is moved."""
    return Clock(monkeypatch)


@pytest.fixture
def hashed(monkeypatch):
    """The passwords that reached argon2 for comparison."""
    from mesh.services.auth import model

    seen: list[str] = []
    compare = model.matches

    def count(phc: str, password: str) -> bool:
        seen.append(password)
        return compare(phc, password)

    monkeypatch.setattr(model, "matches", count)
    return seen
