from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import pytest
from msgspec import Struct

from mesh import codec
from mesh.errors import Broken, Forbidden, InvalidInput, Unauthenticated
from mesh.framework import PERSONAL, Caller, Tells, identity
from mesh.framework.openapi import document
from mesh.framework.service import check
from mesh.services.auth.service import service as auth
from mesh.services.user import calls, messages
from mesh.services.user.service import service

CALLERS = {
    "anyone": identity.ANONYMOUS,
    "customer": Caller("user", "usr_1", ("customer",)),
    "staff": Caller("user", "usr_2", ("staff",)),
    "admin": Caller("user", "usr_3", ("admin",)),
    "service": Caller("service", "order"),
    "operator": Caller("operator", "operator"),
}
EVERYBODY = set(CALLERS)
PEOPLE = {"customer", "staff", "admin"}
ALLOWED = {
    "register": EVERYBODY,
    "login": EVERYBODY,
    "act-as": {"operator"},
    "me": PEOPLE,
    "get": PEOPLE,
    **dict.fromkeys(
        (
            "logout",
            "update-me",
            "change-password",
            "list-addresses",
            "add-address",
            "remove-address",
            "logins",
            "orders",
            "erase",
        ),
        PEOPLE,
    ),
    "explain": PEOPLE | {"operator"},
    **{name: {"admin"} for name in ("list", "grant", "revoke", "suspend", "reinstate")},
}


def test_table_is_sound():
    check(service)
    assert set(document(service, "1")["paths"]) == {
        "/users",
        "/sessions",
        "/sessions/act-as",
        "/sessions/current",
        "/users/me",
        "/users/me/password",
        "/users/me/addresses",
        "/users/me/addresses/{id}",
        "/users/{id}",
        "/users/{id}/logins",
        "/users/{id}/orders",
        "/users/{id}/explain",
        "/users/{id}/roles/{role}",
        "/users/{id}/suspend",
        "/users/{id}/reinstate",
    }


@pytest.mark.parametrize("row", service.operations, ids=lambda row: row.name)
@pytest.mark.parametrize("who", CALLERS)
def test_operation_lets_in_whom_it_lists_and_nobody_else(row, who):
    if who in ALLOWED[row.name]:
        identity.admit(CALLERS[who], row.allow)
        return
    with pytest.raises(Unauthenticated if who == "anyone" else Forbidden):
        identity.admit(CALLERS[who], row.allow)


@pytest.mark.parametrize("row", service.operations, ids=lambda row: row.name)
def test_example_is_valid_and_unknown_members_are_refused(row):
    plain = codec.plain(row.example)
    assert codec.convert(plain, row.takes) == row.example
    with pytest.raises(InvalidInput):
        codec.convert({**plain, "extra": 1}, row.takes)


def test_passwords_are_marked_secret():
    for shape in (messages.Register, messages.Login):
        assert codec.secret_fields(shape) == {"password"}


@pytest.mark.parametrize(
    "call", [calls.SET_CREDENTIALS, calls.VERIFY_CREDENTIALS, calls.SIGN_IN, calls.ISSUE_TOKEN]
)
def test_what_is_said_to_auth_is_what_auth_declares(call):
    row = next(row for row in auth.operations if row.route == call.route)
    assert set(codec.fields(call.takes)) == set(codec.fields(row.takes))
    given, read = (codec.schema(shape) for shape in (row.gives, call.gives))
    assert_reads(read, given, read, given)


def assert_reads(read, given, reads, gives):
    """What is read is there, and of the type that is given, to the last member."""
    if "$ref" in read:
        read, given = (
            every["$defs"][schema["$ref"].rpartition("/")[2]]
            for every, schema in ((reads, read), (gives, given))
        )
    if "anyOf" in read:
        for one, other in zip(read["anyOf"], given["anyOf"], strict=True):
            assert_reads(one, other, reads, gives)
        return
    assert read["type"] == given["type"]
    for name, schema in read.get("properties", {}).items():
        assert_reads(schema, given["properties"][name], reads, gives)


@pytest.mark.parametrize("row", service.tells, ids=lambda row: row.event)
def test_event_carries_ids_and_no_personal_data(row):
    assert set(codec.fields(row.data)) <= {"user_id", "roles", "version"}


class Street(Struct, frozen=True):
    line1: messages.Line


class Moved(Struct, frozen=True):
    user_id: str
    streets: tuple[Street, ...]


class Renamed(Struct, frozen=True):
    user_id: str
    display_name: Annotated[str, PERSONAL] | None


class Leaked(Struct, frozen=True):
    user_id: str
    password: messages.Password


@pytest.mark.parametrize(
    ("data", "member"),
    [
        (Moved, "Street.line1"),
        (Renamed, "Renamed.display_name"),
        (Leaked, "Leaked.password"),
        (messages.UserView, "UserView.email"),
    ],
)
def test_table_is_refused_when_an_event_would_carry_personal_data(data, member):
    key = "id" if data is messages.UserView else "user_id"
    doctored = replace(service, tells=(*service.tells, Tells("user.moved", data, key=key)))
    with pytest.raises(Broken) as refused:
        check(doctored)
    assert member in refused.value.evidence[0]
