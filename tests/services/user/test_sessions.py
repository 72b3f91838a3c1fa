from __future__ import annotations

import pytest

from mesh import tokens
from mesh.errors import (
    Conflict,
    Forbidden,
    InvalidInput,
    MeshError,
    NotFound,
    ServiceUnavailable,
    Throttled,
    Unauthenticated,
)
from mesh.framework import Caller
from mesh.services.auth.model import hash_password
from tests.services.in_process import PROJECT

RIGHT = "demo-shop-pass"
OPERATOR = Caller("operator", "operator")
PEOPLE = {"alice": ["customer"], "bob": ["customer"], "sam": ["staff"], "ada": ["admin"]}
IDS = {name: f"usr_00000000-0000-7000-8000-{n:012d}" for n, name in enumerate(PEOPLE, 1)}


@pytest.fixture
async def shop(user, auth):
    """The seeded people."""
    phc = hash_password(RIGHT)
    await auth.plant(
        {
            "credentials": [
                {"subject": IDS[name], "login": f"{name}@shop.example", "hash": phc}
                for name in PEOPLE
            ]
        }
    )
    await user.plant(
        {
            "users": [
                {
                    "id": IDS[name],
                    "email": f"{name}@shop.example",
                    "display_name": name.title(),
                    "roles": roles,
                }
                for name, roles in PEOPLE.items()
            ]
        }
    )
    auth.asked.clear()
    return user


async def login(shop, password=RIGHT, email="alice@shop.example"):
    return await shop.ask("login", {"email": email, "password": password})


async def set_status(shop, name, status):
    def change(tx):
        tx.execute("UPDATE users SET status = :to WHERE id = :id", to=status, id=IDS[name])

    await shop.transact(change)


def history(shop):
    rows = shop.database.read.all(
        str, "SELECT coalesce(user_id, '-') || ' ' || outcome || ' ' || client FROM logins"
    )
    return sorted(rows)


async def refusal(asked):
    with pytest.raises(MeshError) as refused:
        await asked
    return type(refused.value), refused.value.code, str(refused.value)


async def test_login_gives_tokens_in_the_users_name_and_roles_once_auth_has_said_yes(shop, auth):
    held = await login(shop, email="Sam@shop.example")
    assert auth.asked == ["sign-in"]
    found = await auth.ask("jwks", {})
    known = {key.kid: tokens.public_key(key.x) for key in found.keys}
    said = tokens.verify(held.access_token, known, iss="auth", aud=PROJECT, life_s=600)
    assert (said.sub, said.roles) == (IDS["sam"], ("staff",))
    assert (held.token_type, held.expires_in, held.user_id) == ("Bearer", 600, IDS["sam"])
    renewed = await auth.ask("refresh-token", {"refresh_token": held.refresh_token})
    after = tokens.verify(renewed.access_token, known, iss="auth", aud=PROJECT, life_s=600)
    assert (after.sub, after.sid, after.roles) == (said.sub, said.sid, said.roles)


async def test_unknown_email_and_wrong_password_are_refused_alike(shop, auth):
    refusals, commits = [], []
    for email in ("alice@shop.example", "nobody@shop.example", "not even an e-mail"):
        before = shop.database.commits, auth.database.commits
        refusals.append(await refusal(login(shop, "wrong password", email)))
        commits.append((shop.database.commits - before[0], auth.database.commits - before[1]))
    assert set(refusals) == {
        (Unauthenticated, "bad-credentials", "the e-mail or the password is wrong")
    }
    assert set(commits) == {(1, 2)}
    assert auth.asked == ["sign-in"] * 3


@pytest.mark.parametrize("password", ["", "x", "x" * 128])
async def test_password_of_any_length_is_simply_wrong(shop, password):
    assert (await refusal(login(shop, password)))[1] == "bad-credentials"


async def test_password_beyond_the_limit_is_refused_unread(shop, auth):
    with pytest.raises(InvalidInput):
        await login(shop, "x" * 129)
    assert auth.asked == []


async def test_login_fails_closed_when_auth_is_away(shop, auth):
    auth.away = True
    assert (await refusal(login(shop)))[0] is ServiceUnavailable
    assert history(shop) == []


async def test_login_fails_closed_when_auth_does_not_answer_in_time(shop, auth):
    auth.loses_answers = True
    assert (await refusal(login(shop)))[0] is ServiceUnavailable


async def test_login_fails_closed_when_auth_refuses_user_itself(shop, monkeypatch):
    async def refuse(*_):
        raise Unauthenticated("the token has expired", code="token-expired")

    monkeypatch.setattr(shop.wires.client, "ask", refuse)
    assert (await refusal(login(shop)))[0] is ServiceUnavailable


async def test_login_is_slowed_down_after_five_failures_and_says_for_how_long(shop, wall):
    for _ in range(5):
        await refusal(login(shop, "wrong password"))
    with pytest.raises(Throttled) as refused:
        await login(shop)
    assert refused.value.retry_after_s == 1
    wall.forward(1)
    assert await login(shop)


async def test_closed_account_looks_like_a_wrong_password(shop):
    await set_status(shop, "alice", "closed")
    wrong = await refusal(login(shop, "wrong password"))
    assert await refusal(login(shop)) == wrong


async def test_suspended_user_is_told_so_only_with_the_right_password(shop):
    await set_status(shop, "alice", "suspended")
    assert (await refusal(login(shop, "wrong password")))[1] == "bad-credentials"
    assert (await refusal(login(shop)))[:2] == (Forbidden, "user-suspended")


@pytest.mark.parametrize("status", ["pending", "suspended", "closed"])
async def test_no_session_is_opened_for_who_may_not_come_in(shop, auth, status):
    await set_status(shop, "alice", status)
    await refusal(login(shop))
    assert auth.asked == ["sign-in"]
    assert auth.database.read.one(int, "SELECT count(*) FROM sessions") == 0


async def test_who_is_found_to_be_another_than_was_named_is_let_in_by_a_second_ask(shop, auth):
    """The e-mail has just become somebody else's."""

    def swap(tx):
        tx.execute("UPDATE credentials SET login = 'x' WHERE subject = :id", id=IDS["bob"])
        tx.execute(
            "UPDATE credentials SET login = 'bob@shop.example' WHERE subject = :id",
            id=IDS["alice"],
        )

    await auth.transact(swap)
    held = await login(shop, email="bob@shop.example")
    assert auth.asked == ["sign-in", "issue-token"]
    assert (held.user_id, held.roles) == (IDS["alice"], ("customer",))


async def test_credentials_of_a_subject_that_user_does_not_know_let_nobody_in(shop, auth):
    request = {"subject": "usr_x", "login": "ghost@shop.example", "password": RIGHT}
    await auth.ask("set-credentials", request, caller=Caller("service", "user"))
    assert (await refusal(login(shop, email="ghost@shop.example")))[1] == "bad-credentials"


async def test_history_says_who_came_in_who_was_refused_and_who_acted(shop):
    await login(shop)
    await refusal(login(shop, "wrong password"))
    await refusal(login(shop, email="nobody@shop.example"))
    await set_status(shop, "bob", "suspended")
    await refusal(login(shop, email="bob@shop.example"))
    await shop.ask("act-as", {"login": "alice"}, caller=OPERATOR)
    assert history(shop) == sorted(
        [
            f"{IDS['alice']} accepted anyone",
            f"{IDS['alice']} refused anyone",
            "- refused anyone",
            f"{IDS['bob']} refused anyone",
            f"{IDS['alice']} acted-as operator:operator",
        ]
    )


async def test_history_is_swept_after_ninety_days(shop, wall):
    await login(shop)
    wall.forward(91 * 24 * 3600)
    await login(shop)
    assert len(history(shop)) == 1


@pytest.mark.parametrize("name", ["ada", "ADA", "ada@shop.example"])
async def test_operator_acts_as_a_user_by_short_name_or_email_without_a_password(shop, auth, name):
    held = await shop.ask("act-as", {"login": name}, caller=OPERATOR)
    assert (held.user_id, held.roles) == (IDS["ada"], ("admin",))
    assert auth.asked == ["issue-token"]


async def test_operator_must_name_the_email_when_a_short_name_is_not_unique(shop):
    other = "usr_00000000-0000-7000-8000-0000000000aa"
    row = {"id": other, "email": "alice@elsewhere.example", "display_name": "Alice"}
    await shop.plant({"users": [row]})
    assert (await refusal(shop.ask("act-as", {"login": "alice"}, caller=OPERATOR)))[:2] == (
        Conflict,
        "ambiguous-login",
    )
    held = await shop.ask("act-as", {"login": "alice@elsewhere.example"}, caller=OPERATOR)
    assert held.user_id == other


@pytest.mark.parametrize("name", ["nobody", "al", "alice@", "nobody@shop.example", "%", "a_ice"])
async def test_operator_cannot_act_as_nobody(shop, name):
    assert (await refusal(shop.ask("act-as", {"login": name}, caller=OPERATOR)))[0] is NotFound


async def test_operator_cannot_act_while_auth_is_away(shop, auth):
    auth.away = True
    found = await refusal(shop.ask("act-as", {"login": "alice"}, caller=OPERATOR))
    assert found[0] is ServiceUnavailable
    assert history(shop) == []


async def test_user_sees_itself_and_admins_see_everybody(shop):
    alice, ada = (Caller("user", IDS[name], tuple(PEOPLE[name])) for name in ("alice", "ada"))
    mine = await shop.ask("me", {}, caller=alice)
    assert (mine.id, mine.roles) == (IDS["alice"], ("customer",))
    assert await shop.ask("get", {"id": IDS["alice"]}, caller=alice) == mine
    assert await shop.ask("get", {"id": IDS["alice"]}, caller=ada) == mine


async def test_other_users_and_unknown_ones_are_not_there_alike(shop):
    alice, ada = (Caller("user", IDS[name], tuple(PEOPLE[name])) for name in ("alice", "ada"))
    unknown = "usr_00000000-0000-7000-8000-0000000000bb"
    hidden = await refusal(shop.ask("get", {"id": IDS["bob"]}, caller=alice))
    absent = await refusal(shop.ask("get", {"id": unknown}, caller=ada))
    assert hidden[:2] == absent[:2] == (NotFound, "no-such-user")
    assert hidden[2].replace(IDS["bob"], unknown) == absent[2]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
async def test_list_pages_through_everybody_once(shop, size):
    ada = Caller("user", IDS["ada"], ("admin",))
    seen, token = [], None
    for _ in range(10):
        page = await shop.ask("list", {"page_size": size, "page_token": token}, caller=ada)
        assert len(page.items) <= size
        seen += [(one.id, list(one.roles)) for one in page.items]
        token = page.next_page_token
        if token is None:
            break
    assert seen == [(IDS[name], roles) for name, roles in PEOPLE.items()]


async def test_list_is_empty_where_nobody_is(user):
    page = await user.ask("list", {}, caller=Caller("user", "usr_1", ("admin",)))
    assert (page.items, page.next_page_token) == ((), None)
