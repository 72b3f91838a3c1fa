from __future__ import annotations

import pytest

from mesh import codec
from mesh.errors import Conflict, Forbidden, InvalidInput, NotFound, Unauthenticated
from mesh.framework import Caller
from mesh.services.user import messages, model
from mesh.services.user.model import User

ALICE = User("usr_1", "alice@shop.example", "Alice", "active", 2, 1_800_000_000_123)


def member(status):
    return codec.replace(ALICE, status=status)


@pytest.mark.parametrize(
    "email",
    ["a@b.example", "Alice.B+tag@Shop.Example", "x" * 64 + "@shop.example", "o'hara@a-b.co"],
)
def test_email_is_taken_when_well_formed(email):
    assert codec.convert(
        {
            "id": "usr_" + "0" * 8 + "-0000" * 3 + "-" + "0" * 12,
            "email": email,
            "display_name": "A",
        },
        messages.SeedUser,
    )


@pytest.mark.parametrize(
    "email",
    [
        "",
        "alice",
        "alice@shop",
        "alice@shop.example\n",
        "alice @shop.example",
        "a@b@shop.example",
        "alice@shop..example",
        "älice@shop.example",
        "x" * 65 + "@shop.example",
        "a@" + "b" * 250 + ".example",
    ],
)
def test_email_is_refused_when_malformed(email):
    with pytest.raises(InvalidInput) as refused:
        codec.convert(
            {"email": email, "password": "correct staple", "display_name": "A"}, messages.Register
        )
    assert refused.value.pointer == "/email"


def test_email_has_one_form():
    assert model.normal("Alice@SHOP.example") == "alice@shop.example"


def test_only_an_active_user_may_log_in():
    assert model.check_may_log_in(ALICE) is ALICE


@pytest.mark.parametrize("found", [None, member("pending"), member("closed")])
def test_user_that_is_not_there_looks_like_a_wrong_password(found):
    with pytest.raises(Unauthenticated) as refused:
        model.check_may_log_in(found)
    assert refused.value.code == "bad-credentials"
    assert str(refused.value) == str(model.bad_credentials())


def test_suspended_user_is_told_so():
    with pytest.raises(Forbidden) as refused:
        model.check_may_log_in(member("suspended"))
    assert refused.value.code == "user-suspended"


@pytest.mark.parametrize(
    ("found", "error", "code"),
    [
        ([], NotFound, "no-such-user"),
        ([ALICE, ALICE], Conflict, "ambiguous-login"),
        ([member("pending")], Forbidden, "user-pending"),
        ([member("suspended")], Forbidden, "user-suspended"),
        ([member("closed")], Forbidden, "user-closed"),
    ],
)
def test_operator_is_told_why_nobody_is_meant(found, error, code):
    with pytest.raises(error) as refused:
        model.the_one(found, "alice")
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("caller", "sees"),
    [
        (Caller("user", "usr_1", ("customer",)), True),
        (Caller("user", "usr_2", ("admin",)), True),
        (Caller("user", "usr_2", ("customer",)), False),
        (Caller("user", "usr_2", ("staff",)), False),
        (Caller("user", "usr_2"), False),
    ],
)
def test_user_is_seen_by_itself_and_by_admins(caller, sees):
    if sees:
        model.check_may_see(caller, "usr_1")
        return
    with pytest.raises(NotFound) as refused:
        model.check_may_see(caller, "usr_1")
    assert str(refused.value) == str(model.not_found("usr_1"))


def test_view_shows_when_in_utc():
    shown = codec.plain(model.view(ALICE, ["customer"]))
    assert shown["created_at"] == "2027-01-15T08:00:00.123Z"
