"""A login and a session by one ask: the same check as ever, and a session for whom user named."""

from __future__ import annotations

import pytest

from mesh import tokens
from mesh.errors import InvalidInput, MeshError
from mesh.services.auth import model
from tests.services.auth.conftest import USER

ALICE = "usr_00000000-0000-7000-8000-000000000001"
BOB = "usr_00000000-0000-7000-8000-000000000002"
RIGHT = "correct staple"


@pytest.fixture
async def people(auth):
    request = {"subject": ALICE, "login": "alice@shop.example", "password": RIGHT}
    await auth.ask("set-credentials", request, caller=USER)
    await auth.ask("jwks", {})
    return auth


async def sign_in(auth, subject=ALICE, password=RIGHT, **more):
    request = {"login": "alice@shop.example", "password": password, "subject": subject, **more}
    return await auth.ask("sign-in", request, caller=USER)


def sessions(auth):
    return auth.database.read.one(int, "SELECT count(*) FROM sessions")


async def test_session_is_opened_with_the_commit_that_ends_the_guess(people):
    commits = people.database.commits
    signed = await sign_in(people, roles=["customer"])
    assert people.database.commits - commits == 2
    assert signed.subject == ALICE
    found = await people.ask("jwks", {})
    known = {key.kid: tokens.public_key(key.x) for key in found.keys}
    said = tokens.verify(signed.tokens.access_token, known, iss="auth", aud="shop", life_s=600)
    assert (said.sub, said.roles) == (ALICE, ("customer",))
    renewed = await people.ask("refresh-token", {"refresh_token": signed.tokens.refresh_token})
    assert renewed.expires_in == 600
    assert people.database.read.one(int, "SELECT count(*) FROM guesses") == 0


@pytest.mark.parametrize("subject", [BOB, None])
async def test_right_password_of_another_opens_nothing(people, subject):
    signed = await sign_in(people, subject)
    assert (signed.subject, signed.tokens, sessions(people)) == (ALICE, None, 0)


@pytest.mark.parametrize("login", ["alice@shop.example", "nobody@shop.example"])
async def test_wrong_password_is_refused_as_when_it_is_verified(people, hashed, login):
    refused = []
    for name, more in (("sign-in", {"subject": ALICE}), ("verify-credentials", {})):
        commits = people.database.commits
        request = {"login": login, "password": "wrong", **more}
        with pytest.raises(MeshError) as caught:
            await people.ask(name, request, caller=USER)
        done = people.database.commits - commits
        refused.append((type(caught.value), caught.value.code, str(caught.value), done))
    assert refused[0] == refused[1]
    assert len(hashed) == 2
    assert sessions(people) == 0


async def test_sessions_are_as_many_as_if_they_were_opened_by_themselves(people):
    for _ in range(model.SESSIONS_MAX + 2):
        await sign_in(people)
    assert sessions(people) == model.SESSIONS_MAX


async def test_nobody_is_named_by_no_empty_subject(people):
    with pytest.raises(InvalidInput):
        await sign_in(people, "")
