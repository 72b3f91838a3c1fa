"""Refreshing a session, when the process of auth dies at any await: nobody is logged out by it."""

from __future__ import annotations

import pytest

from mesh.errors import Unauthenticated
from mesh.framework import Caller
from mesh.services.auth.service import service
from tests.framework.mortal import deaths
from tests.services.in_process import room

USER = Caller("service", "user")


async def test_session_lives_when_auth_dies_and_the_same_request_is_sent_again(tmp_path):
    async with room(service, tmp_path) as auth:
        held = {}

        async def refresh(n):
            if n not in held:
                request = {"subject": "usr_1", "roles": ["customer"]}
                held[n] = (await issue(request)).refresh_token
            return await auth.ask("refresh-token", {"refresh_token": held[n]}, key=f"k{n}")

        async def issue(request):
            whole, auth.wires.database = auth.wires.database, auth.database
            try:
                return await auth.ask("issue-token", request, caller=USER)
            finally:
                auth.wires.database = whole

        died = 0
        async for at in deaths(auth, refresh):
            died += 1
            renewed = await refresh(at)
            following = {"refresh_token": renewed.refresh_token}
            assert await auth.ask("refresh-token", following)
            with pytest.raises(Unauthenticated):  # the one that was exchanged is good for nothing
                await auth.ask("refresh-token", {"refresh_token": held[at]}, key=f"other{at}")
        assert died == 2
        assert auth.offenders() == {}
