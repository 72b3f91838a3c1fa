"""Keys that sign access tokens: rotated with an overlap, revoked at once, never more than a bound."""

from __future__ import annotations

from mesh import tokens
from mesh.errors import Unauthenticated
from mesh.framework import Caller
from mesh.services.auth import model
from tests.services.auth.conftest import USER
from tests.services.in_process import outcomes

OPERATOR = Caller("operator", "operator")
ALICE = "usr_00000000-0000-7000-8000-000000000001"


async def published(auth):
    found = await auth.ask("jwks", {})
    return {key.kid: tokens.public_key(key.x) for key in found.keys}


async def issue(auth):
    return await auth.ask("issue-token", {"subject": ALICE, "roles": ["customer"]}, caller=USER)


def holds(access_token, keys):
    try:
        tokens.verify(access_token, keys, iss="auth", aud="shop", life_s=600)
    except Unauthenticated:
        return False
    return True


async def test_rotation_signs_with_a_new_key_and_keeps_publishing_the_old(auth):
    before = await issue(auth)
    turned = await auth.ask("rotate-keys", {}, caller=OPERATOR)
    after = await issue(auth)
    keys = await published(auth)
    assert len(keys) == 2
    assert turned.kid in keys
    assert tokens.header(after.access_token)[0] == turned.kid
    assert tokens.header(before.access_token)[0] != turned.kid
    assert holds(before.access_token, keys)
    assert holds(after.access_token, keys)
    told = auth.told("auth.keys_changed")[-1]
    assert (told.data["kid"], {key["kid"] for key in told.data["keys"]}) == (turned.kid, set(keys))
    assert auth.offenders() == {}


async def test_old_key_is_published_longer_than_any_token_lives_and_then_no_more(auth, wall):
    await issue(auth)
    wall.forward(60)
    last = await issue(auth)
    await auth.ask("rotate-keys", {}, caller=OPERATOR)
    wall.forward(model.ACCESS_S + tokens.LEEWAY_S)
    assert tokens.header(last.access_token)[0] in await published(auth)
    wall.forward(61)
    assert len(await published(auth)) == 1
    await auth.ask("rotate-keys", {}, caller=OPERATOR)
    assert auth.database.read.one(int, "SELECT count(*) FROM signing_keys") == 2


async def test_private_half_of_a_retired_key_is_gone(auth):
    await issue(auth)
    await auth.ask("rotate-keys", {}, caller=OPERATOR)
    kept = auth.database.read.all(
        int, "SELECT length(private) FROM signing_keys ORDER BY length(private)"
    )
    assert kept == [0, 32]


async def test_keys_are_rotated_every_ten_seconds_and_not_much_faster(auth, wall):
    await issue(auth)
    for _ in range(2 * model.KEYS_MAX):
        wall.forward(10)
        await auth.ask("rotate-keys", {}, caller=OPERATOR)
    turns = (auth.ask("rotate-keys", {}, caller=OPERATOR) for _ in range(model.KEYS_MAX))
    assert (await outcomes(*turns))[-1] == "too-many-keys"
    assert len(await published(auth)) == model.KEYS_MAX


async def test_revoked_key_is_gone_at_once_and_sessions_go_on_under_another(auth):
    held = await issue(auth)
    kid = tokens.header(held.access_token)[0]
    turned = await auth.ask("revoke-key", {"kid": kid}, caller=OPERATOR)
    keys = await published(auth)
    assert turned.changed
    assert set(keys) == {turned.kid} != {kid}
    assert not holds(held.access_token, keys)
    renewed = await auth.ask("refresh-token", {"refresh_token": held.refresh_token})
    assert holds(renewed.access_token, keys)
    assert auth.told("auth.keys_changed")[-1].data["kid"] == turned.kid


async def test_retiring_key_is_revoked_without_another_taking_over(auth):
    held = await issue(auth)
    turned = await auth.ask("rotate-keys", {}, caller=OPERATOR)
    gone = await auth.ask(
        "revoke-key", {"kid": tokens.header(held.access_token)[0]}, caller=OPERATOR
    )
    assert (gone.kid, len(gone.keys), gone.changed) == (turned.kid, 1, True)


async def test_revoking_a_key_that_is_not_there_changes_and_tells_nothing(auth):
    await issue(auth)
    told = len(auth.told())
    answer = await auth.ask("revoke-key", {"kid": "0" * 16}, caller=OPERATOR)
    assert not answer.changed
    assert len(auth.told()) == told
