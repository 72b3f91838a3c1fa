from __future__ import annotations

import pytest

from mesh.services.auth.service import service as auth_service
from mesh.services.user.service import service
from tests.services.in_process import Clock, room


@pytest.fixture
async def auth(tmp_path):
    """The real auth, whom user asks."""
    async with room(auth_service, tmp_path) as made:
        yield made


@pytest.fixture
async def user(tmp_path, auth):
    """The real user, with a new database."""
    async with room(service, tmp_path, auth) as made:
        yield made


@pytest.fixture
def wall(monkeypatch):
    """Wall time that stands still until it is moved."""
    return Clock(monkeypatch)
