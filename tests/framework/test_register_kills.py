"""Registering, when the process of user dies at any await: one user, one set of credentials."""

from __future__ import annotations

import pytest

from mesh.errors import InvalidInput
from mesh.services.auth.service import service as auth_service
from mesh.services.user.service import service as user_service
from tests.framework.mortal import deaths
from tests.services.in_process import room


@pytest.mark.parametrize("key", ["k", None], ids=["with a key", "without one"])
async def test_registration_is_finished_by_the_same_request_when_its_process_dies_at_any_await(
    tmp_path, key
):
    async with room(auth_service, tmp_path) as auth, room(user_service, tmp_path, auth) as user:

        async def ask(n, name="Carol"):
            body = {
                "email": f"carol{n}@shop.example",
                "password": "demo-shop-pass",
                "display_name": name,
            }
            return await user.ask("register", body, key=key and f"{key}{n}")

        died = 0
        async for at in deaths(user, ask):
            died += 1
            finished = user.database.read.one(
                str,
                "SELECT status FROM users WHERE email = :email",
                email=f"carol{at}@shop.example",
            )
            if key is None and finished == "active":
                continue  # without a key nobody can tell this request from a stranger's
            shown = await ask(at)
            assert shown.status == "active"
            told = [row.data["user_id"] for row in user.told("user.registered")]
            assert told.count(shown.id) == 1
            if key is not None:
                assert await ask(at) == shown
                with pytest.raises(InvalidInput):
                    await ask(at, name="Mallory")
        assert died >= 6
        ids = user.database.read.all(str, "SELECT id FROM users ORDER BY id")
        subjects = auth.database.read.all(str, "SELECT subject FROM credentials ORDER BY subject")
        assert ids == subjects
        assert len(ids) == len(set(ids)) == died + 1
        assert user.offenders() == auth.offenders() == {}
