"""Erasing somebody, when the process of user dies at any await: all of it, or nothing yet."""

from __future__ import annotations

import contextlib

from mesh.errors import NotFound
from mesh.framework import Caller
from mesh.services.auth.service import service as auth_service
from mesh.services.user.service import service as user_service
from tests.framework.mortal import deaths
from tests.services.in_process import room

ADA = Caller("user", "usr_00000000-0000-7000-8000-000000000004", ("admin",))


async def test_erasure_is_whole_after_a_death_at_any_await(tmp_path):
    async with room(auth_service, tmp_path) as auth, room(user_service, tmp_path, auth) as user:
        made = {}

        async def erase(n):
            if n not in made:
                body = {
                    "email": f"carol{n}@shop.example",
                    "password": "demo-shop-pass",
                    "display_name": "Carol",
                }
                mortal, user.wires.database = user.wires.database, user.database
                client, user.wires.client = user.wires.client, alive
                try:
                    made[n] = (await user.ask("register", body)).id
                finally:
                    user.wires.database, user.wires.client = mortal, client
            await user.ask("erase", {"id": made[n]}, caller=ADA)

        alive = user.wires.client
        died = 0
        async for at in deaths(user, erase):
            died += 1
            await user.erasure.again(user.database, user.wires.vocabulary)
            with contextlib.suppress(NotFound):
                await erase(at)
        assert died == 2
        await user.work()
        told = [one.data["user_id"] for one in user.told("user.erased")]
        assert sorted(told) == sorted(made.values())
        assert user.erasure._file.read_text().split() == told
        for room_, table in ((user, "users"), (auth, "credentials")):
            count = f"SELECT count(*) FROM {table}"
            assert room_.database.read.one(int, count) == 0
