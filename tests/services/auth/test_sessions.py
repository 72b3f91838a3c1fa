from __future__ import annotations

import pytest

from mesh import clock, tokens
from mesh.errors import Conflict, Unauthenticated
from mesh.framework.identity import KeySet
from mesh.services.auth import model
from tests.services.auth.conftest import USER
from tests.services.in_process import outcomes

ALICE = "usr_00000000-0000-7000-8000-000000000001"
DAY_S = 24 * 3600


async def issue(auth, roles=("customer",), key=None):
    request = {"subject": ALICE, "roles": list(roles)}
    return await auth.ask("issue-token", request, caller=USER, key=key)


async def refresh(auth, held, key=None):
    return await auth.ask("refresh-token", {"refresh_token": held.refresh_token}, key=key)


async def claims(auth, access_token):
    """As every other service verifies it."""
    found = await auth.ask("jwks", {})
    known = {key.kid: tokens.public_key(key.x) for key in found.keys}
    return tokens.verify(access_token, known, iss="auth", aud="shop", life_s=600)


async def test_access_token_says_who_and_for_whom_and_lives_ten_minutes(auth):
    held = await issue(auth, ("customer", "staff"))
    said = await claims(auth, held.access_token)
    assert (said.sub, said.aud, said.iss, said.roles) == (
        ALICE,
        "shop",
        "auth",
        ("customer", "staff"),
    )
    assert said.exp - said.iat == held.expires_in == 600
    assert abs(said.iat - clock.now_ms() / 1000) < 10
    assert said.sid.startswith("ses_")
    assert tokens.header(held.access_token)[1] == tokens.USER_TOKEN
    assert held.token_type == "Bearer"


async def test_first_key_is_made_once_and_told_when_tokens_are_first_needed(auth):
    found = await outcomes(*(issue(auth) for _ in range(10)), auth.ask("jwks", {}))
    told = auth.told("auth.keys_changed")
    assert len(told) == 1
    published = await auth.ask("jwks", {})
    assert [key.kid for key in published.keys] == [told[0].data["kid"]]
    assert told[0].data["keys"] == [tokens.jwk(key.kid, key.x) for key in published.keys]
    for held in found[:-1]:
        assert (await claims(auth, held.access_token)).sub == ALICE


async def test_first_key_is_made_when_somebody_asks_for_keys(auth):
    found = await auth.ask("jwks", {})
    assert len(found.keys) == 1
    assert await auth.ask("jwks", {}) == found
    assert len(auth.told("auth.keys_changed")) == 1


async def test_told_key_set_is_read_by_the_framework_of_every_other_service(auth):
    await auth.ask("jwks", {})
    from mesh import codec

    heard = codec.convert(auth.told("auth.keys_changed")[0].data, KeySet)
    assert tokens.public_key(heard.keys[0]["x"])


async def test_refresh_gives_the_next_pair_for_the_same_session_and_roles(auth):
    held = await issue(auth, ("customer", "staff"))
    renewed = await refresh(auth, held)
    before, after = await claims(auth, held.access_token), await claims(auth, renewed.access_token)
    assert (after.sid, after.sub, after.roles) == (before.sid, before.sub, before.roles)
    assert renewed.refresh_token != held.refresh_token
    assert (await refresh(auth, renewed)).refresh_token


async def test_reused_refresh_token_ends_its_session_and_says_so_once(auth):
    held = await issue(auth)
    renewed = await refresh(auth, held)
    other = await issue(auth)
    for _ in range(2):
        with pytest.raises(Unauthenticated) as refused:
            await refresh(auth, held)
        assert refused.value.code == "bad-refresh-token"
    with pytest.raises(Unauthenticated):
        await refresh(auth, renewed)
    said = await claims(auth, held.access_token)
    (told,) = auth.told("auth.session_revoked")
    assert told.data.pop("until_ms") >= said.exp * 1000
    assert told.data == {"session_id": said.sid, "subject": ALICE, "reason": "reused-token"}
    assert await refresh(auth, other)


async def test_at_most_one_wins_when_one_refresh_token_is_shown_often_at_once(auth):
    held = await issue(auth)
    found = await outcomes(*(refresh(auth, held) for _ in range(50)))
    won = [one for one in found if one != "bad-refresh-token"]
    assert len(won) == 1
    with pytest.raises(Unauthenticated):
        await refresh(auth, won[0])
    assert auth.offenders() == {}


async def test_refresh_answer_can_be_asked_for_again_by_the_same_key_within_ten_seconds(auth, wall):
    held = await issue(auth)
    lost = await refresh(auth, held, key="one-request")
    wall.forward(10)
    again = await refresh(auth, held, key="one-request")
    assert auth.told("auth.session_revoked") == []
    assert (await refresh(auth, again)).refresh_token
    with pytest.raises(Unauthenticated):
        await refresh(auth, lost)


@pytest.mark.parametrize(
    ("key", "later_s"), [("one-request", 11), ("another-request", 0), (None, 0)]
)
async def test_refresh_token_counts_as_reused_for_another_key_or_later(auth, wall, key, later_s):
    held = await issue(auth)
    renewed = await refresh(auth, held, key="one-request")
    wall.forward(later_s)
    with pytest.raises(Unauthenticated):
        await refresh(auth, held, key=key)
    with pytest.raises(Unauthenticated):
        await refresh(auth, renewed)


async def test_key_of_somebody_elses_refresh_spends_nothing(auth):
    mine, theirs = await issue(auth), await issue(auth)
    await refresh(auth, theirs, key="the-same-key")
    with pytest.raises(Conflict):
        await refresh(auth, mine, key="the-same-key")
    assert await refresh(auth, mine, key="a-better-key")


@pytest.mark.parametrize(
    "change", [lambda t: t.replace("customer", "admin"), lambda t: t[:-1], str.upper]
)
async def test_changed_refresh_token_means_nothing(auth, change):
    held = await issue(auth)
    with pytest.raises(Unauthenticated):
        await auth.ask("refresh-token", {"refresh_token": change(held.refresh_token)})
    assert auth.told("auth.session_revoked") == []
    assert await refresh(auth, held)


async def test_session_ends_after_thirty_days_however_often_it_was_refreshed(auth, wall):
    held = await issue(auth)
    wall.forward(29 * DAY_S)
    held = await refresh(auth, held)
    wall.forward(1 * DAY_S)
    with pytest.raises(Unauthenticated):
        await refresh(auth, held)


async def test_expired_tokens_are_swept_when_a_session_is_opened(auth, wall):
    await refresh(auth, await issue(auth))
    wall.forward(31 * DAY_S)
    await issue(auth)
    assert auth.database.read.one(int, "SELECT count(*) FROM sessions") == 1


async def test_revoked_token_ends_its_session_and_an_unknown_one_is_answered_alike(auth):
    held = await issue(auth)
    said = await claims(auth, held.access_token)
    for token in (held.refresh_token, held.refresh_token, "customer.never-issued"):
        assert await auth.ask("revoke-token", {"refresh_token": token}) is None
    with pytest.raises(Unauthenticated):
        await refresh(auth, held)
    (told,) = auth.told("auth.session_revoked")
    assert told.data.pop("until_ms") >= said.exp * 1000
    assert told.data == {"session_id": said.sid, "subject": ALICE, "reason": "signed-out"}


async def test_one_session_is_opened_when_the_request_is_sent_again_with_its_key(auth):
    lost = await issue(auth, key="lgn_1")
    held = await issue(auth, key="lgn_1")
    sids = {(await claims(auth, one.access_token)).sid for one in (lost, held)}
    assert len(sids) == 1
    assert await refresh(auth, held)
    with pytest.raises(Unauthenticated):
        await refresh(auth, lost)


async def test_oldest_session_ends_when_a_subject_opens_too_many(auth, monkeypatch):
    monkeypatch.setattr(model, "SESSIONS_MAX", 3)
    held = [await issue(auth) for _ in range(5)]
    for one in held[:2]:
        with pytest.raises(Unauthenticated):
            await refresh(auth, one)
    for one in held[2:]:
        assert await refresh(auth, one)


async def test_no_refresh_token_is_in_the_file_or_in_an_event(auth, tmp_path):
    held = await issue(auth, key="lgn_1")
    renewed = await refresh(auth, held, key="rotate-1")
    await auth.ask("revoke-token", {"refresh_token": renewed.refresh_token})
    await auth.database.close()
    stored = b"".join(item.read_bytes() for item in tmp_path.rglob("*") if item.is_file())
    assert ALICE.encode() in stored
    for token in (held, renewed):
        assert token.refresh_token.rpartition(".")[2].encode() not in stored
        assert token.access_token.encode() not in stored


async def test_roles_are_kept_nowhere_in_the_file(auth, tmp_path):
    await refresh(auth, await issue(auth, ("canary-role",)))
    await auth.database.close()
    stored = b"".join(item.read_bytes() for item in tmp_path.rglob("*") if item.is_file())
    assert ALICE.encode() in stored
    assert b"canary-role" not in stored
