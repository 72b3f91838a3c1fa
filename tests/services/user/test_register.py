from __future__ import annotations

import pytest

from mesh import codec
from mesh.errors import Conflict, InvalidInput, ServiceUnavailable, Throttled, Unauthenticated
from mesh.framework import Caller
from mesh.services.user import store
from tests.services.in_process import outcomes

EMAIL = "carol@shop.example"
RIGHT = "correct staple"


async def register(user, password=RIGHT, email=EMAIL, name="Carol", key=None):
    request = {"email": email, "password": password, "display_name": name}
    return await user.ask("register", request, key=key)


async def login(user, password=RIGHT, email=EMAIL):
    return await user.ask("login", {"email": email, "password": password})


def rows(user, status):
    return user.database.read.all(str, "SELECT id FROM users WHERE status = :status", status=status)


async def test_registered_user_is_an_active_customer_who_can_log_in(user):
    view = await register(user)
    assert view.id.startswith("usr_")
    assert (view.email, view.display_name, view.status) == (EMAIL, "Carol", "active")
    assert (view.roles, view.version) == (("customer",), 2)
    held = await login(user)
    assert (held.user_id, held.roles) == (view.id, ("customer",))


async def test_registration_is_told_once_and_without_personal_data(user):
    view = await register(user, key="one")
    await register(user, key="one")
    told = user.told()
    assert [one.type for one in told] == ["user.registered"]
    assert told[0].data == {"user_id": view.id, "roles": ["customer"], "version": 2}
    assert user.offenders() == {}


async def test_email_is_one_however_it_is_written(user):
    view = await register(user, email="Carol@SHOP.example")
    assert view.email == EMAIL
    with pytest.raises(Conflict):
        await register(user, email="CAROL@shop.example")
    assert (await login(user, email="cArOl@shop.example")).user_id == view.id


async def test_taken_email_is_refused_without_looking_at_the_password(user, auth):
    await register(user)
    auth.asked.clear()
    for key in (None, "new-key"):
        with pytest.raises(Conflict) as refused:
            await register(user, key=key)
        assert refused.value.code == "email-taken"
    assert auth.asked == []


@pytest.mark.parametrize("key", [None, "the-key"])
async def test_registration_waits_as_pending_while_auth_is_away_and_is_finished_later(
    user, auth, key
):
    auth.away = True
    for _ in range(2):
        with pytest.raises(ServiceUnavailable):
            await register(user, key=key)
    assert len(rows(user, "pending")) == 1
    assert user.told() == []
    assert user.offenders() == {}
    auth.away = False
    view = await register(user, key=key)
    assert rows(user, "pending") == []
    assert rows(user, "active") == [view.id]
    assert (await login(user)).user_id == view.id


async def test_pending_user_may_come_back_with_another_password_if_auth_never_got_one(user, auth):
    auth.away = True
    with pytest.raises(ServiceUnavailable):
        await register(user, "the first one", name="Carol the first")
    auth.away = False
    view = await register(user, "the second one", name="Carol")
    assert view.display_name == "Carol"
    assert (await login(user, "the second one")).user_id == view.id


@pytest.mark.parametrize("key", [None, "the-key"])
async def test_registration_is_finished_when_auths_answer_got_lost(user, auth, key):
    auth.loses_answers = True
    with pytest.raises(ServiceUnavailable):
        await register(user, key=key)
    auth.loses_answers = False
    view = await register(user, key=key)
    assert view.status == "active"
    assert len(user.told()) == 1


async def test_stranger_cannot_take_over_a_pending_user_whose_password_auth_holds(user, auth, wall):
    auth.loses_answers = True
    with pytest.raises(ServiceUnavailable):
        await register(user, key="mine")
    auth.loses_answers = False
    for n in range(5):
        with pytest.raises(Conflict) as refused:
            await register(user, f"guess number {n}", key=f"theirs-{n}")
        assert refused.value.code == "email-taken"
    with pytest.raises(Throttled):
        await register(user, "guess number 5")
    wall.forward(1)
    view = await register(user, key="mine")
    assert view.status == "active"
    assert (await login(user)).user_id == view.id


async def test_registration_sent_again_while_auth_still_keeps_the_first_is_not_refused(user, auth):
    """As after a pause of auth: user gave up on its first question, and auth has it before it."""
    views = await outcomes(*(register(user, key=key) for key in ("first", "again")))
    assert views[0] == views[1]
    assert views[0].status == "active"
    assert rows(user, "pending") == []
    assert len(user.told()) == 1
    assert (await login(user)).user_id == views[0].id


async def test_pending_user_cannot_log_in(user, auth):
    auth.loses_answers = True
    with pytest.raises(ServiceUnavailable):
        await register(user)
    auth.loses_answers = False
    with pytest.raises(Unauthenticated) as refused:
        await login(user)
    assert refused.value.code == "bad-credentials"


async def test_same_key_shows_the_user_again_only_to_who_knows_the_password(user, auth):
    view = await register(user, key="the-key")
    assert await register(user, key="the-key") == view
    auth.asked.clear()
    with pytest.raises(Conflict) as refused:
        await register(user, "wrong password", key="the-key")
    assert refused.value.code == "email-taken"
    assert auth.asked == ["verify-credentials"]
    auth.away = True
    with pytest.raises(ServiceUnavailable):
        await register(user, key="the-key")


async def test_same_key_with_another_body_is_refused(user):
    await register(user, key="the-key")
    with pytest.raises(InvalidInput) as refused:
        await register(user, email="dave@shop.example", key="the-key")
    assert refused.value.code == "idempotency-key-reused"


async def test_answer_to_a_known_caller_is_replayed_without_any_secret_in_it(user):
    alice = Caller("user", "usr_1", ("customer",))
    request = {"email": EMAIL, "password": "canary-77aa in clear", "display_name": "Carol"}
    view = await user.ask("register", request, caller=alice, key="the-key")
    assert await user.ask("register", request, caller=alice, key="the-key") == view
    answer = user.database.read.one(bytes, "SELECT answer FROM request")
    assert codec.decode(answer, dict[str, object])["id"] == view.id


async def test_one_of_two_wins_when_both_register_an_email_at_once(user):
    found = await outcomes(*(register(user, f"password {n} of two") for n in range(2)))
    lost = found.index("email-taken")
    won = found[1 - lost]
    assert (await login(user, f"password {1 - lost} of two")).user_id == won.id
    with pytest.raises(Unauthenticated):
        await login(user, f"password {lost} of two")
    assert len(user.told()) == 1
    assert user.offenders() == {}


async def test_user_is_activated_once_when_two_tries_finish_the_registration_at_once(user, auth):
    auth.loses_answers = True
    with pytest.raises(ServiceUnavailable):
        await register(user)
    auth.loses_answers = False
    found = await outcomes(register(user), register(user))
    assert found[0] == found[1]
    assert found[0].version == 2
    assert len(user.told()) == 1


async def test_same_key_shows_nobody_whose_login_is_another_subjects_by_now(user, auth):
    view = await register(user, key="the-key")
    for subject, name in ((view.id, "elsewhere@shop.example"), ("usr_x", EMAIL)):
        request = {"subject": subject, "login": name, "password": RIGHT}
        await auth.ask("set-credentials", request, caller=Caller("service", "user"))
    with pytest.raises(Conflict) as refused:
        await register(user, key="the-key")
    assert refused.value.code == "email-taken"


async def test_common_password_is_refused_and_a_better_one_is_taken_by_the_same_key(user):
    with pytest.raises(InvalidInput) as refused:
        await register(user, "Password123", key="the-key")
    assert (refused.value.code, refused.value.pointer) == ("password-too-common", "/password")
    assert (await register(user, key="the-key")).status == "active"


@pytest.mark.parametrize(
    ("member", "value"),
    [("password", "short 7"), ("display_name", ""), ("display_name", "x" * 101)],
)
async def test_member_out_of_its_limits_is_refused_before_anything_is_done(user, member, value):
    request = {"email": EMAIL, "password": RIGHT, "display_name": "Carol", member: value}
    with pytest.raises(InvalidInput) as refused:
        await user.ask("register", request)
    assert refused.value.pointer == f"/{member}"
    assert rows(user, "pending") == []


async def test_login_name_that_auth_knows_for_another_subject_is_taken(user, auth):
    request = {"subject": "usr_x", "login": EMAIL, "password": RIGHT}
    await auth.ask("set-credentials", request, caller=Caller("service", "user"))
    with pytest.raises(Conflict) as refused:
        await register(user)
    assert refused.value.code == "email-taken"


async def test_no_password_is_in_the_file_of_user(user, tmp_path):
    password = "canary-5d0e91 in clear"
    await register(user, password, key="the-key")
    await login(user, password)
    await user.database.close()
    folder = tmp_path / "user"
    stored = b"".join(item.read_bytes() for item in folder.iterdir() if item.is_file())
    assert EMAIL.encode() in stored
    assert b"canary-5d0e91" not in stored
    assert b"argon2" not in stored


async def test_seeded_user_is_active_and_told_of(user):
    alice = "usr_00000000-0000-7000-8000-000000000001"
    row = {"id": alice, "email": "Alice@shop.example", "display_name": "Alice", "roles": ["staff"]}
    await user.plant({"users": [row]})
    found = store.user(user.database.read, alice)
    assert (found.email, found.status, found.version) == ("alice@shop.example", "active", 2)
    assert store.roles(user.database.read, alice) == ["staff"]
    assert [one.data["user_id"] for one in user.told("user.registered")] == [alice]


async def test_broken_promises_are_found(user):
    view = await register(user)

    def damage(tx):
        tx.execute("UPDATE users SET status = 'pending' WHERE id = :id", id=view.id)

    await user.transact(damage)
    assert user.offenders() == {"pending-have-nothing": [view.id]}
    await register(user)
    assert user.offenders() == {"registered-once": [view.id]}
