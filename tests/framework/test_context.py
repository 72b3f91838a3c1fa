from __future__ import annotations

from dataclasses import replace

import pytest

from mesh import clock, telemetry
from mesh.errors import Broken
from mesh.framework import Context, identity
from mesh.services.auth.service import service as auth
from mesh.services.user import calls
from mesh.services.user.service import service as user
from tests.services.in_process import room


async def test_ask_refuses_a_call_that_is_not_in_the_table(tmp_path):
    bare = replace(user, asks=(calls.VERIFY_CREDENTIALS,))
    async with room(auth, tmp_path) as peer, room(bare, tmp_path, peer) as asker:
        until_s = clock.monotonic_s() + 60
        ctx = Context(asker.wires, identity.ANONYMOUS, telemetry.new_trace(), "req_test", until_s)
        with pytest.raises(Broken, match=r"user asks auth 'POST /tokens', not in its table"):
            await ctx.ask(calls.ISSUE_TOKEN, calls.Grant("usr_1", ()))
    assert peer.asked == []
