"""Profiles, addresses, roles, suspension and erasure, with the real auth beside."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
import yaml

import mesh
from mesh.errors import (
    Conflict,
    Forbidden,
    InvalidInput,
    MeshError,
    NotFound,
    PreconditionFailed,
    Refused,
    ServiceUnavailable,
    StorageFull,
    Throttled,
    Unauthenticated,
)
from mesh.framework import Caller
from mesh.services.auth import store as auth_store
from mesh.services.user import entry, model
from tests.services.in_process import Told, outcomes

RIGHT = "demo-shop-pass"
OPERATOR = Caller("operator", "operator")
NAMES = ("alice", "bob", "sam", "ada", "mallory", "nora")
IDS = {name: f"usr_00000000-0000-7000-8000-{n:012d}" for n, name in enumerate(NAMES, 1)}
ALICE = Caller("user", IDS["alice"], ("customer",), "ses_00000000-0000-7000-8000-000000000001")
BOB = Caller("user", IDS["bob"], ("customer",))
ADA = Caller("user", IDS["ada"], ("admin",))
ADDRESS = {
    "name": "Alice Adams",
    "line1": "1 Harbour Street",
    "city": "Hamburg",
    "postcode": "20457",
    "country": "DE",
}


@pytest.fixture
async def shop(user, auth):
    """The people of the configuration."""
    document = yaml.safe_load(
        (Path(mesh.__file__).parent.parent / "configs" / "mesh.yaml").read_text("utf-8")
    )
    planted = document["services"]["auth"]["seed"]["credentials"]
    for row in planted:
        row["hash"] = row["hash"].replace("$$", "$")
    await auth.plant({"credentials": planted})
    await user.plant(document["services"]["user"]["seed"])
    return user


async def login(shop, name="alice", password=RIGHT):
    return await shop.ask("login", {"email": f"{name}@shop.example", "password": password})


async def code_of(asked):
    with pytest.raises(MeshError) as caught:
        await asked
    return type(caught.value), caught.value.code


# --- one's own ------------------------------------------------------------------------------


async def test_profile_is_changed_by_who_has_read_this_version_of_it(shop):
    before = await shop.ask("me", {}, caller=ALICE)
    after = await shop.ask(
        "update-me", {"display_name": "Alice A."}, caller=ALICE, match=f'"{before.version}"'
    )
    assert (after.display_name, after.version) == ("Alice A.", before.version + 1)
    late = shop.ask("update-me", {"display_name": "B"}, caller=ALICE, match=f'"{before.version}"')
    assert (await code_of(late))[0] is PreconditionFailed
    blind = shop.ask("update-me", {"display_name": "B"}, caller=ALICE)
    assert (await code_of(blind)) == (Refused, "precondition-required")
    assert (await shop.ask("me", {}, caller=ALICE)).display_name == "Alice A."


async def test_same_profile_once_more_is_no_change(shop):
    before = await shop.ask("me", {}, caller=ALICE)
    again = {"display_name": before.display_name}
    assert await shop.ask("update-me", again, caller=ALICE, match="*") == before


async def test_addresses_are_added_listed_and_removed_by_their_owner_alone(shop):
    added = await shop.ask("add-address", ADDRESS, caller=BOB, key="one")
    assert await shop.ask("add-address", ADDRESS, caller=BOB, key="one") == added
    assert (added.line1, added.line2) == ("1 Harbour Street", None)
    assert (await shop.ask("list-addresses", {}, caller=BOB)).items == (added,)
    for other in (ALICE, ADA):
        refused = shop.ask("remove-address", {"id": added.id}, caller=other)
        assert await code_of(refused) == (NotFound, "no-such-address")
    await shop.ask("remove-address", {"id": added.id}, caller=BOB)
    assert (await shop.ask("list-addresses", {}, caller=BOB)).items == ()
    assert len((await shop.ask("list-addresses", {}, caller=ALICE)).items) == 1


async def test_addresses_are_bounded_and_paged(shop):
    for _ in range(model.ADDRESSES_MAX):
        await shop.ask("add-address", ADDRESS, caller=BOB)
    refused = shop.ask("add-address", ADDRESS, caller=BOB)
    assert await code_of(refused) == (Conflict, "too-many-addresses")
    seen, token = [], None
    while True:
        page = await shop.ask("list-addresses", {"page_size": 7, "page_token": token}, caller=BOB)
        seen += [one.id for one in page.items]
        token = page.next_page_token
        if token is None:
            break
    assert len(set(seen)) == len(seen) == model.ADDRESSES_MAX


async def test_password_is_changed_by_who_knows_it_and_ends_every_session(shop, auth):
    held = await login(shop)
    wrong = {"password": "not this one", "new_password": "a newer password"}
    assert await code_of(shop.ask("change-password", wrong, caller=ALICE)) == (
        Forbidden,
        "wrong-password",
    )
    common = {"password": RIGHT, "new_password": "password123"}
    with pytest.raises(InvalidInput) as refused:
        await shop.ask("change-password", common, caller=ALICE)
    assert refused.value.pointer == "/new_password"
    right = {"password": RIGHT, "new_password": "a newer password"}
    await shop.ask("change-password", right, caller=ALICE)
    assert (await code_of(login(shop)))[1] == "bad-credentials"
    assert (await login(shop, password="a newer password")).user_id == IDS["alice"]
    renewed = auth.ask("refresh-token", {"refresh_token": held.refresh_token})
    assert (await code_of(renewed))[1] == "bad-refresh-token"


async def test_logout_ends_this_session_alone_and_fails_while_auth_is_away(shop, auth):
    here, there = await login(shop), await login(shop)
    first = auth.database.read.one(str, "SELECT min(family) FROM sessions")
    me = Caller("user", IDS["alice"], ("customer",), first)
    auth.away = True
    assert (await code_of(shop.ask("logout", {}, caller=me)))[0] is ServiceUnavailable
    auth.away = False
    await shop.ask("logout", {}, caller=me)
    (told,) = auth.told("auth.session_revoked")
    assert (told.data["session_id"], told.data["reason"]) == (first, "signed-out")
    await shop.ask("logout", {}, caller=me)
    assert len(auth.told("auth.session_revoked")) == 1
    gone = auth.ask("refresh-token", {"refresh_token": here.refresh_token})
    assert (await code_of(gone))[1] == "bad-refresh-token"
    assert await auth.ask("refresh-token", {"refresh_token": there.refresh_token})


# --- others ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, set(NAMES)),
        ({"role": "staff"}, {"sam"}),
        ({"role": "admin", "status": "active"}, {"ada"}),
        ({"status": "suspended"}, {"mallory"}),
        ({"status": "pending"}, set()),
    ],
)
async def test_list_is_narrowed_by_status_and_role(shop, wanted, found):
    await shop.ask("suspend", {"id": IDS["mallory"]}, caller=ADA)
    page = await shop.ask("list", wanted, caller=ADA)
    assert {one.id for one in page.items} == {IDS[name] for name in found}


async def test_role_is_given_and_taken_once_and_the_sessions_end_each_time(shop, auth):
    role = {"id": IDS["bob"], "role": "staff"}
    held = await login(shop, "bob")
    first = await shop.ask("grant", role, caller=ADA)
    assert first.roles == ("customer", "staff")
    assert await shop.ask("grant", role, caller=ADA) == first
    assert await shop.work() == ["end-sessions"]
    renewed = auth.ask("refresh-token", {"refresh_token": held.refresh_token})
    assert (await code_of(renewed))[1] == "bad-refresh-token"
    assert (await login(shop, "bob")).roles == ("customer", "staff")
    last = await shop.ask("revoke", role, caller=ADA)
    assert (last.roles, last.version) == (("customer",), first.version + 1)
    assert await shop.ask("revoke", role, caller=ADA) == last
    assert await shop.work() == ["end-sessions"]
    assert [one.data["roles"] for one in shop.told("user.roles_changed")] == [
        ["customer", "staff"],
        ["customer"],
    ]
    assert [one.data["reason"] for one in auth.told("auth.session_revoked")] == [
        "roles-changed"
    ] * 2


async def test_suspended_user_is_out_until_reinstated(shop, auth):
    held = await login(shop, "bob")
    view = await shop.ask("suspend", {"id": IDS["bob"]}, caller=ADA)
    assert view.status == "suspended"
    assert await shop.ask("suspend", {"id": IDS["bob"]}, caller=ADA) == view
    assert await shop.work() == ["end-sessions"]
    assert await code_of(login(shop, "bob")) == (Forbidden, "user-suspended")
    renewed = auth.ask("refresh-token", {"refresh_token": held.refresh_token})
    assert (await code_of(renewed))[1] == "bad-refresh-token"
    assert (await shop.ask("reinstate", {"id": IDS["bob"]}, caller=ADA)).status == "active"
    assert (await login(shop, "bob")).user_id == IDS["bob"]
    assert [one.type for one in shop.told()][-2:] == ["user.suspended", "user.reinstated"]
    assert shop.offenders() == {}


@pytest.mark.parametrize("verb", ["suspend", "revoke", "erase"])
async def test_last_admin_stays(shop, verb):
    words = {"id": IDS["ada"]} | ({"role": "admin"} if verb == "revoke" else {})
    assert await code_of(shop.ask(verb, words, caller=ADA)) == (Conflict, "last-admin")
    await shop.ask("grant", {"id": IDS["sam"], "role": "admin"}, caller=ADA)
    await shop.ask(verb, words, caller=ADA)
    sam = Caller("user", IDS["sam"], ("staff", "admin"))
    words["id"] = IDS["sam"]
    assert await code_of(shop.ask(verb, words, caller=sam)) == (Conflict, "last-admin")


@pytest.mark.parametrize("verb", ["suspend", "reinstate", "grant", "revoke"])
async def test_nothing_is_changed_of_a_user_who_is_not_there_or_still_pending(shop, auth, verb):
    auth.away = True
    request = {"email": "new@shop.example", "password": RIGHT, "display_name": "New"}
    await code_of(shop.ask("register", request))
    pending = shop.database.read.one(str, "SELECT id FROM users WHERE status = 'pending'")
    unknown = "usr_00000000-0000-7000-8000-0000000000bb"
    more = {"role": "staff"} if verb in {"grant", "revoke"} else {}
    assert (await code_of(shop.ask(verb, {"id": unknown, **more}, caller=ADA)))[0] is NotFound
    assert await code_of(shop.ask(verb, {"id": pending, **more}, caller=ADA)) == (
        Conflict,
        "user-pending",
    )


# --- coming in while something changes ------------------------------------------------------


@pytest.mark.parametrize("verb", ["suspend", "erase", "grant"])
async def test_nobody_gets_a_session_that_was_opened_while_their_rights_changed(
    shop, monkeypatch, verb
):
    """Between auth's session and the last look at the user: the tokens are not handed out."""
    real = entry._ask_auth

    async def slowly(ctx, call, request, **more):
        answer = await real(ctx, call, request, **more)
        if call.route == "POST /credentials/sign-in":
            words = {"id": IDS["bob"]} | ({"role": "staff"} if verb == "grant" else {})
            await shop.ask(verb, words, caller=ADA)
        return answer

    monkeypatch.setattr(entry, "_ask_auth", slowly)
    with pytest.raises((Forbidden, Unauthenticated, ServiceUnavailable)):
        await login(shop, "bob")


async def test_source_that_meets_many_taken_emails_may_ask_for_no_more(shop, wall):
    async def register(email, source):
        request = {"email": email, "password": "a good password", "display_name": "X"}
        return await shop.ask("register", request, source=source)

    for _ in range(model.PROBES_MAX):
        assert (await code_of(register("alice@shop.example", "10.0.0.1")))[1] == "email-taken"
    for email in ("alice@shop.example", "free@shop.example"):
        with pytest.raises(Throttled):
            await register(email, "10.0.0.1")
    assert (await register("free@shop.example", "10.0.0.2")).status == "active"
    wall.forward(model.PROBES_MS / 1000 + 1)
    assert (await register("freer@shop.example", "10.0.0.1")).status == "active"


# --- what is heard and told -----------------------------------------------------------------


def changed(order, new, version, user_id=IDS["alice"]):
    said = {
        "order_id": f"ord_00000000-0000-7000-8000-{order:012d}",
        "user_id": user_id,
        "new": new,
        "version": version,
        "total_minor": 2980,
        "currency": "EUR",
    }
    return Told("order.status_changed", said)


async def test_orders_show_the_newest_status_whatever_order_events_come_in(shop):
    told = [changed(1, "paid", 3), changed(1, "pending", 1), changed(2, "pending", 1)]
    await shop.hear(*told, changed(1, "paid", 3), changed(3, "pending", 1, IDS["bob"]))
    page = await shop.ask("orders", {"id": IDS["alice"], "page_size": 1}, caller=ALICE)
    assert [(one.order_id[-1], one.status) for one in page.items] == [("2", "pending")]
    more = {"id": IDS["alice"], "page_token": page.next_page_token}
    page = await shop.ask("orders", more, caller=ADA)
    assert [(one.order_id[-1], one.status, one.version) for one in page.items] == [("1", "paid", 3)]
    assert page.next_page_token is None


async def test_order_of_somebody_who_is_not_here_is_not_remembered(shop):
    await shop.hear(changed(1, "paid", 3, "usr_00000000-0000-7000-8000-0000000000bb"))
    assert shop.database.read.one(int, "SELECT count(*) FROM orders_seen") == 0


async def test_history_of_logins_is_shown_newest_first_to_oneself_and_admins(shop):
    await login(shop)
    await code_of(login(shop, password="wrong password"))
    await shop.ask("act-as", {"login": "alice"}, caller=OPERATOR)
    page = await shop.ask("logins", {"id": IDS["alice"], "page_size": 2}, caller=ALICE)
    assert [(one.outcome, one.client) for one in page.items] == [
        ("acted-as", "operator:operator"),
        ("refused", "anyone"),
    ]
    more = {"id": IDS["alice"], "page_token": page.next_page_token}
    assert [one.outcome for one in (await shop.ask("logins", more, caller=ADA)).items] == [
        "accepted"
    ]
    assert (await code_of(shop.ask("logins", {"id": IDS["alice"]}, caller=BOB)))[0] is NotFound


async def test_explanation_says_what_is_waited_for_and_possible(shop, auth):
    await shop.ask("suspend", {"id": IDS["bob"]}, caller=ADA)
    for who in (ADA, OPERATOR, BOB):
        said = await shop.ask("explain", {"id": IDS["bob"]}, caller=who)
        assert (said.status, said.possible[2]) == ("suspended", "reinstate")
        assert "reinstate" in said.waits_for
    assert (await code_of(shop.ask("explain", {"id": IDS["bob"]}, caller=ALICE)))[0] is NotFound
    known = await auth.ask("explain", {"id": IDS["bob"]}, caller=OPERATOR)
    assert (known.credentials, known.sessions, known.waits_for) == (True, 0, None)
    for _ in range(5):
        await code_of(login(shop, "alice", "wrong password"))
    known = await auth.ask("explain", {"id": IDS["alice"]}, caller=OPERATOR)
    assert known.failures == 5
    assert "too many failed logins" in known.waits_for


# --- erasure --------------------------------------------------------------------------------


def stored(room, needle):
    folder = Path(room.database._place.file).parent
    return [
        path.name
        for path in folder.iterdir()
        if path.is_file() and needle.encode() in path.read_bytes()
    ]


async def without_a_trace(room, *needles):
    """Until the bytes are gone: the -wal is cut within a moment of quiet."""
    async with asyncio.timeout(60):
        while any(stored(room, needle) for needle in needles):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("by", ["oneself", "an admin"])
async def test_erased_user_leaves_no_byte_in_user_and_auth(shop, auth, by):
    request = {
        "email": "canary-71f0@shop.example",
        "password": "a good password",
        "display_name": "Canary Quillfeather",
    }
    made = await shop.ask("register", request)
    me = Caller("user", made.id, ("customer",))
    await shop.ask("add-address", {**ADDRESS, "line1": "7 Canary Wharf-9c"}, caller=me, key="k")
    await shop.ask("login", {"email": request["email"], "password": request["password"]})
    await code_of(shop.ask("login", {"email": request["email"], "password": "wrong one"}))
    await shop.hear(changed(1, "paid", 3, made.id))
    needles = ("canary-71f0", "Quillfeather", "Canary Wharf-9c")
    assert all(stored(shop, needle) for needle in needles)
    assert stored(auth, "canary-71f0")
    await shop.ask("erase", {"id": made.id}, caller=me if by == "oneself" else ADA)
    assert await shop.work() == ["erase-credentials"]
    await without_a_trace(shop, *needles)
    await without_a_trace(auth, *needles)
    assert await code_of(shop.ask("get", {"id": made.id}, caller=ADA)) == (
        NotFound,
        "no-such-user",
    )
    assert [one.data for one in shop.told("user.erased")] == [{"user_id": made.id}]
    assert [one.data["reason"] for one in auth.told("auth.session_revoked")] == ["erased"]
    for table in ("addresses", "grants", "logins", "orders_seen"):
        count = f"SELECT count(*) FROM {table} WHERE user_id = :id"
        assert shop.database.read.one(int, count, id=made.id) == 0
    again = await shop.ask("register", request)
    assert again.id != made.id
    assert shop.offenders() == auth.offenders() == {}


async def test_auth_forgets_also_by_the_event_and_only_once(shop, auth):
    await login(shop, "nora")
    told = Told("user.erased", {"user_id": IDS["nora"]})
    await auth.hear(told)
    await auth.hear(told)
    assert auth_store.credentials_of(auth.database.read, IDS["nora"]) is None
    assert len(auth.told("auth.session_revoked")) == 1
    assert auth.erasure._file.read_text().split() == [IDS["nora"]]


async def test_others_are_untouched_by_an_erasure_and_nobody_else_may_ask_for_it(shop, auth):
    refused = shop.ask("erase", {"id": IDS["nora"]}, caller=BOB)
    assert (await code_of(refused))[0] is NotFound
    assert (await login(shop, "nora")).user_id == IDS["nora"]
    await shop.ask("erase", {"id": IDS["nora"]}, caller=ADA)
    await shop.work()
    for name in ("alice", "bob", "mallory"):
        assert (await login(shop, name)).user_id == IDS[name]


async def test_erased_user_is_erased_again_when_an_older_copy_comes_back(shop, auth):
    """What a restore does: the database without the erasure, the file `erased` beside it."""
    for room, name in ((shop, "nora"), (auth, "nora")):
        (room.erasure._file).write_text(f"{IDS[name]}\nusr_torn")
        await room.erasure.again(room.database, room.wires.vocabulary)
    assert (await code_of(shop.ask("get", {"id": IDS["nora"]}, caller=ADA)))[0] is NotFound
    assert [one.data for one in shop.told("user.erased")] == [{"user_id": IDS["nora"]}]
    assert auth_store.credentials_of(auth.database.read, IDS["nora"]) is None
    before = shop.database.commits
    await shop.erasure.again(shop.database, shop.wires.vocabulary)
    assert shop.database.commits == before
    await shop.ask("erase", {"id": IDS["mallory"]}, caller=ADA)
    assert shop.erasure._file.read_text().split() == [IDS["nora"], "usr_torn", IDS["mallory"]]


async def test_id_is_noted_before_the_rows_go_and_for_the_owner_alone(shop, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    refused = shop.ask("erase", {"id": IDS["nora"]}, caller=ADA)
    assert (await code_of(refused))[0] is StorageFull
    monkeypatch.undo()
    assert (await shop.ask("get", {"id": IDS["nora"]}, caller=ADA)).status == "active"
    await shop.ask("erase", {"id": IDS["nora"]}, caller=ADA)
    assert shop.erasure._file.stat().st_mode & 0o777 == 0o600


async def test_somebody_who_is_here_though_erased_breaks_a_promise(shop):
    assert shop.offenders() == {}
    mark = "INSERT INTO erased (user_id, at_ms) VALUES (:id, 0)"
    await shop.transact(lambda tx: tx.execute(mark, id=IDS["nora"]))
    assert shop.offenders() == {"erased-are-gone": [IDS["nora"]]}


async def test_one_of_two_erasures_at_once_finds_nobody(shop):
    found = await outcomes(*(shop.ask("erase", {"id": IDS["nora"]}, caller=ADA) for _ in range(2)))
    assert sorted(map(str, found)) == ["None", "no-such-user"]
    assert len(shop.told("user.erased")) == 1


# --- the documented examples ----------------------------------------------------------------


async def test_examples_work_in_the_seeded_shop(shop):
    for row in shop.service.operations:
        who = Caller()
        if row.allow.operator and not row.allow.owner:
            who = OPERATOR
        elif "admin" in row.allow.roles:
            who = ADA
        elif not row.allow.anyone:
            who = ALICE
        answer = await shop.ask(row.name, row.example, caller=who, key="a-key", match="*")
        assert (answer is None) == (row.status == 204), row.name
    assert shop.offenders() == {}
