"""How fast passwords can be guessed: by login and source, by source, and all together."""

from __future__ import annotations

import pytest

from mesh.errors import Overloaded, Throttled, Unauthenticated
from mesh.framework import Context
from mesh.services.auth import model, store
from tests.services.auth.conftest import USER
from tests.services.in_process import outcomes

ALICE = "usr_00000000-0000-7000-8000-000000000001"
BOB = "usr_00000000-0000-7000-8000-000000000002"
RIGHT = "correct staple"
HERE, THERE = "127.0.0.1", "127.0.0.2"


@pytest.fixture(params=["verify-credentials", "sign-in"])
async def people(auth, request):
    """Two who have a password, which is guessed in one way or the other."""
    auth.guessed_by = request.param
    for subject, name in ((ALICE, "alice"), (BOB, "bob")):
        request = {"subject": subject, "login": f"{name}@shop.example", "password": RIGHT}
        await auth.ask("set-credentials", request, caller=USER)
    return auth


async def verify(auth, password=RIGHT, name="alice", source=HERE):
    request = {"login": f"{name}@shop.example", "password": password, "source": source}
    if auth.guessed_by == "sign-in":
        request["subject"] = ALICE if name == "alice" else BOB
    return await auth.ask(auth.guessed_by, request, caller=USER)


async def fail(auth, times, name="alice", source=HERE):
    for _ in range(times):
        with pytest.raises(Unauthenticated):
            await verify(auth, "wrong password", name, source)


async def test_right_password_from_another_source_works_while_one_is_throttled(people, wall):
    await fail(people, 5)
    with pytest.raises(Throttled):
        await verify(people)
    assert (await verify(people, source=THERE)).subject == ALICE
    with pytest.raises(Throttled):
        await verify(people)
    wall.forward(1)
    assert (await verify(people)).subject == ALICE


async def test_nobody_waits_longer_than_a_quarter_of_an_hour(people, wall):
    await fail(people, 5)
    for _ in range(14):
        wall.forward(model.LOCK_S_MAX)
        await fail(people, 1)
    with pytest.raises(Throttled) as refused:
        await verify(people)
    assert refused.value.retry_after_s == model.LOCK_S_MAX
    wall.forward(model.LOCK_S_MAX)
    assert (await verify(people)).subject == ALICE


async def test_source_that_fails_with_many_logins_waits_until_its_failures_are_old(
    people, wall, hashed
):
    for n in range(model.SOURCE_FAILURES):
        await fail(people, 1, f"nobody-{n}")
        wall.forward(1)
    for name in ("nobody-99", "alice"):
        with pytest.raises(Throttled) as refused:
            await verify(people, name=name)
        assert refused.value.retry_after_s == 60 - model.SOURCE_FAILURES
    assert len(hashed) == model.SOURCE_FAILURES
    assert (await verify(people, source=THERE)).subject == ALICE
    wall.forward(60 - model.SOURCE_FAILURES)
    assert (await verify(people)).subject == ALICE


async def test_right_logins_do_not_count_against_their_source(people, wall):
    for _ in range(2 * model.SOURCE_FAILURES):
        assert (await verify(people)).subject == ALICE
    assert people.database.read.one(int, "SELECT count(*) FROM guesses") == 0


async def storm(auth, wall, names) -> list[object]:
    """1,000 guesses within a minute, some twenty at a time, as an attacker would send them."""
    found = []
    for n in range(0, 1000, 20):
        found += await outcomes(
            *(verify(auth, f"guess number {n + i}", names[(n + i) % len(names)]) for i in range(20))
        )
        wall.forward(60 / 50)
    return found


@pytest.mark.parametrize("logins", [1, 1000], ids=["one account", "a thousand accounts"])
async def test_of_a_thousand_guesses_in_a_minute_thirty_reach_the_hash_at_most(
    people, wall, hashed, logins
):
    names = ["alice"] if logins == 1 else [f"nobody-{n}" for n in range(logins)]
    found = await storm(people, wall, names)
    assert set(found) <= {"bad-credentials", "throttled", "overloaded"}
    assert 5 <= len(hashed) <= 30
    assert (await verify(people, name="bob", source=THERE)).subject == BOB


async def test_others_of_the_same_source_log_in_while_one_account_is_guessed_at(
    people, wall, hashed
):
    await storm(people, wall, ["alice"])
    assert (await verify(people, name="bob")).subject == BOB


async def test_a_thousand_guesses_at_once_find_two_hashing_and_few_waiting(people, hashed):
    """No clock stands still here: the pool itself is the bound, or the wait for the writer."""
    found = await outcomes(
        *(verify(people, f"guess number {n}", f"nobody-{n}") for n in range(1000))
    )
    assert set(found) <= {"bad-credentials", "throttled", "overloaded", "database-busy"}
    assert len(hashed) <= 30
    assert people.wires.computing == 0
    assert (await verify(people, name="bob", source=THERE)).subject == BOB


async def test_guess_that_found_no_room_in_the_pool_counts_for_nothing(people, monkeypatch):
    async def full(*_):
        raise Overloaded

    monkeypatch.setattr(Context, "compute", full)
    for _ in range(3):
        with pytest.raises(Overloaded):
            await verify(people)
    assert people.database.read.one(int, "SELECT count(*) FROM guesses") == 0


async def test_guess_that_a_crash_cut_off_blocks_its_login_for_seconds_only(people, wall):
    for n in range(model.OPEN_MAX):
        await people.transact(store.put_guess, f"gss_{n}", "alice@shop.example", HERE)
    with pytest.raises(Throttled):
        await verify(people)
    wall.forward(model.OPEN_MS / 1000)
    assert (await verify(people)).subject == ALICE
