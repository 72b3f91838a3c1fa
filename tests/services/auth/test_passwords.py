from __future__ import annotations

import asyncio
import re
import unicodedata

import argon2
import pytest

from mesh.errors import Conflict, InvalidInput, MeshError, Throttled, Unauthenticated
from mesh.services.auth import model, store
from tests.services.auth.conftest import USER
from tests.services.in_process import outcomes

ALICE = "usr_00000000-0000-7000-8000-000000000001"
BOB = "usr_00000000-0000-7000-8000-000000000002"
RIGHT = "correct staple"


def credentials(subject=ALICE, login="alice@shop.example", password=RIGHT, **more):
    return {"subject": subject, "login": login, "password": password, **more}


async def put(auth, **members):
    return await auth.ask("set-credentials", credentials(**members), caller=USER)


async def verify(auth, password=RIGHT, login="alice@shop.example"):
    return await auth.ask("verify-credentials", {"login": login, "password": password}, caller=USER)


async def fail(auth, times, login="alice@shop.example"):
    for _ in range(times):
        with pytest.raises(Unauthenticated):
            await verify(auth, "wrong password", login)


async def test_credentials_verify_to_their_subject_once_set(auth):
    view = await put(auth)
    assert (view.subject, view.version) == (ALICE, 1)
    assert (await verify(auth)).subject == ALICE


async def test_password_is_stored_as_argon2id_and_nowhere_in_clear(auth, tmp_path):
    await put(auth, password="canary-8f2c51 in clear")
    await verify(auth, "canary-8f2c51 in clear")
    phc = auth.database.read.one(str, "SELECT hash FROM credentials")
    assert re.fullmatch(r"\$argon2id\$v=19\$m=19456,t=2,p=1\$[\w+/]{22}\$[\w+/]{43}", phc)
    await auth.database.close()
    stored = b"".join(item.read_bytes() for item in tmp_path.rglob("*") if item.is_file())
    assert b"alice@shop.example" in stored
    assert b"canary-8f2c51" not in stored


@pytest.mark.parametrize("password", ["short 7", "x" * 129, "Password123"])
async def test_set_credentials_refuses_a_password_that_is_short_long_or_common(auth, password):
    with pytest.raises(InvalidInput) as refused:
        await put(auth, password=password)
    assert refused.value.pointer == "/password"
    assert auth.database.read.one(int, "SELECT count(*) FROM credentials") == 0


@pytest.mark.parametrize("password", ["x" * 128, " spaces count ", "ÄÖÜ äöü ß", "👩‍👩‍👧 family"])
async def test_password_is_verified_exactly_as_received(auth, password):
    await put(auth, password=password)
    assert (await verify(auth, password)).subject == ALICE
    others = {
        password[:-1],
        password[1:],
        password.strip(),
        password.upper(),
        unicodedata.normalize("NFD", password),
    }
    for other in others - {password}:
        with pytest.raises(Unauthenticated):
            await verify(auth, other)


async def test_unknown_login_and_wrong_password_are_refused_alike(auth, hashed):
    await put(auth)
    refusals = []
    for login in ("alice@shop.example", "nobody@shop.example"):
        before = auth.database.commits
        with pytest.raises(MeshError) as refused:
            await verify(auth, "wrong password", login)
        error = refused.value
        refusals.append(
            (type(error), error.code, str(error), error.facts, auth.database.commits - before)
        )
    assert refusals[0] == refusals[1]
    assert refusals[0][0] is Unauthenticated
    assert len(hashed) == 2


@pytest.mark.parametrize("login", ["alice@shop.example", "nobody@shop.example"])
async def test_login_must_wait_after_five_failures_whether_it_exists_or_not(
    auth, wall, hashed, login
):
    await put(auth)
    await fail(auth, 5, login)
    for _ in range(20):
        with pytest.raises(Throttled) as refused:
            await verify(auth, "wrong password", login)
        assert refused.value.retry_after_s == 1
    assert len(hashed) == 5
    wall.forward(1)
    await fail(auth, 1, login)
    with pytest.raises(Throttled) as refused:
        await verify(auth, "wrong password", login)
    assert refused.value.retry_after_s == 2


async def test_right_password_is_let_in_once_the_wait_is_over_and_clears_the_count(auth, wall):
    await put(auth)
    await fail(auth, 5)
    with pytest.raises(Throttled):
        await verify(auth)
    wall.forward(1)
    assert (await verify(auth)).subject == ALICE
    await fail(auth, 5)
    with pytest.raises(Throttled) as refused:
        await verify(auth)
    assert refused.value.retry_after_s == 1


async def test_failures_of_one_login_do_not_slow_another(auth, wall):
    await put(auth)
    await put(auth, subject=BOB, login="bob@shop.example")
    await fail(auth, 5)
    assert (await verify(auth, login="bob@shop.example")).subject == BOB


async def test_few_guesses_are_hashed_when_hundreds_come_at_once(auth, wall, hashed):
    await put(auth)
    guesses = [verify(auth, f"guess number {n}") for n in range(300)]
    found = await outcomes(*guesses)
    assert set(found) <= {"bad-credentials", "throttled", "overloaded"}
    assert len(hashed) <= model.OPEN_MAX
    assert store.tries(auth.database.read, "alice@shop.example", "").failures == 5


async def test_one_guess_is_hashed_for_each_wait_when_several_come_at_once(auth, wall, hashed):
    await put(auth)
    await fail(auth, 5)
    for wait_s in (1, 2, 4):
        wall.forward(wait_s)
        hashed.clear()
        found = await outcomes(*(verify(auth, f"guess number {n}") for n in range(10)))
        assert sorted(found) == ["bad-credentials"] + ["throttled"] * 9
        assert len(hashed) == 1


async def test_many_right_logins_at_once_are_all_let_in(auth):
    await put(auth)
    found = await asyncio.gather(*(verify(auth) for _ in range(12)))
    assert {one.subject for one in found} == {ALICE}


async def test_old_failures_are_swept_with_the_next_one(auth, wall):
    await fail(auth, 1, "one@shop.example")
    wall.forward(2 * 3600)
    await fail(auth, 1, "two@shop.example")
    assert auth.database.read.all(str, "SELECT login FROM attempts") == ["two@shop.example"]


async def test_hash_is_renewed_at_the_next_login_when_parameters_rise(auth, monkeypatch):
    await put(auth)
    old = auth.database.read.one(str, "SELECT hash FROM credentials")
    monkeypatch.setattr(
        model, "HASHER", argon2.PasswordHasher(time_cost=3, memory_cost=19_456, parallelism=1)
    )
    await verify(auth)
    new = auth.database.read.one(str, "SELECT hash FROM credentials")
    assert new != old
    assert "t=3" in new
    assert (await verify(auth)).subject == ALICE
    assert auth.database.read.one(str, "SELECT hash FROM credentials") == new


async def test_renewed_hash_does_not_undo_a_change_made_meanwhile(auth):
    await put(auth)
    before = store.credentials_of(auth.database.read, ALICE)
    await put(auth, password="a newer one")
    await auth.transact(store.rehash, before, model.hash_password(RIGHT))
    assert (await verify(auth, "a newer one")).subject == ALICE


async def test_first_password_stands_when_replace_is_off(auth):
    await put(auth, replace=False)
    again = await put(auth, replace=False)
    assert again.version == 1
    with pytest.raises(Conflict) as refused:
        await put(auth, password="another one", replace=False)
    assert refused.value.code == "credentials-exist"
    with pytest.raises(Conflict):
        await put(auth, login="other@shop.example", replace=False)
    assert (await verify(auth)).subject == ALICE


async def test_one_of_two_first_passwords_wins_when_both_come_at_once(auth):
    found = await outcomes(
        *(put(auth, password=f"password {n} of two", replace=False) for n in range(2))
    )
    lost = found.index("credentials-exist")
    assert found[1 - lost].version == 1
    assert (await verify(auth, f"password {1 - lost} of two")).subject == ALICE
    with pytest.raises(Unauthenticated):
        await verify(auth, f"password {lost} of two")


async def test_same_request_twice_at_once_is_answered_twice_and_done_once(auth):
    first, second = await outcomes(*(put(auth, replace=False) for _ in range(2)))
    assert first == second
    assert first.version == 1
    assert (await verify(auth)).subject == ALICE


async def test_set_credentials_is_no_faster_way_to_guess(auth, wall, hashed):
    await put(auth, replace=False)
    for n in range(5):
        with pytest.raises(Conflict):
            await put(auth, password=f"guess number {n}", replace=False)
    with pytest.raises(Throttled):
        await put(auth, password=RIGHT, replace=False)
    assert len(hashed) == 5


async def test_login_of_another_subject_is_refused(auth):
    await put(auth)
    with pytest.raises(Conflict) as refused:
        await put(auth, subject=BOB)
    assert refused.value.code == "login-taken"


async def test_changed_password_ends_every_session_of_the_subject_and_says_so(auth):
    await put(auth)
    await put(auth, subject=BOB, login="bob@shop.example")
    held = [
        await auth.ask("issue-token", {"subject": who, "roles": []}, caller=USER)
        for who in (ALICE, ALICE, BOB)
    ]
    assert (await put(auth, password="a newer one")).version == 2
    told = auth.told("auth.session_revoked")
    assert len(told) == 2
    assert {(one.data["subject"], one.data["reason"]) for one in told} == {
        (ALICE, "credentials-changed")
    }
    for tokens in held[:2]:
        with pytest.raises(Unauthenticated):
            await auth.ask("refresh-token", {"refresh_token": tokens.refresh_token})
    assert await auth.ask("refresh-token", {"refresh_token": held[2].refresh_token})


async def test_new_password_need_not_wait_for_failures_with_the_old_one(auth, wall):
    await put(auth)
    await fail(auth, 5)
    await put(auth, password="a newer one")
    assert (await verify(auth, "a newer one")).subject == ALICE


async def test_seed_plants_credentials_that_verify(auth):
    phc = model.hash_password("demo-shop-pass")
    await auth.plant(
        {"credentials": [{"subject": ALICE, "login": "alice@shop.example", "hash": phc}]}
    )
    assert (await verify(auth, "demo-shop-pass")).subject == ALICE


async def test_seed_refuses_what_is_no_argon2id_hash(auth):
    with pytest.raises(InvalidInput):
        await auth.plant(
            {"credentials": [{"subject": ALICE, "login": "alice", "hash": "demo-shop-pass"}]}
        )
