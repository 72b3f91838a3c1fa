from __future__ import annotations

import pytest

from mesh import codec
from mesh.errors import Forbidden, InvalidInput, Unauthenticated
from mesh.framework import Caller, identity
from mesh.framework.openapi import document
from mesh.framework.service import check
from mesh.services.auth.service import service
from tests.services.auth.conftest import USER

CALLERS = {
    "anyone": identity.ANONYMOUS,
    "customer": Caller("user", "usr_1", ("customer",)),
    "admin": Caller("user", "usr_2", ("admin",)),
    "user service": USER,
    "order service": Caller("service", "order"),
    "operator": Caller("operator", "operator"),
}
OPEN = {"refresh-token", "revoke-token", "jwks"}
OPERATED = {"explain", "rotate-keys", "revoke-key"}
OPERATOR = Caller("operator", "operator")


def by(row):
    return OPERATOR if row.name in OPERATED else USER


def test_table_is_sound():
    check(service)
    assert set(document(service, "1")["paths"]) == {
        "/credentials/{subject}",
        "/credentials/verify",
        "/credentials/sign-in",
        "/tokens",
        "/tokens/refresh",
        "/tokens/revoke",
        "/sessions/{id}",
        "/subjects/{subject}/end-sessions",
        "/subjects/{id}/explain",
        "/keys/rotate",
        "/keys/{kid}",
        "/.well-known/jwks.json",
    }


@pytest.mark.parametrize("row", service.operations, ids=lambda row: row.name)
@pytest.mark.parametrize("who", CALLERS)
def test_operation_lets_in_whom_it_lists_and_nobody_else(row, who):
    if row.name in OPEN or who == ("operator" if row.name in OPERATED else "user service"):
        identity.admit(CALLERS[who], row.allow)
        return
    with pytest.raises(Unauthenticated if who == "anyone" else Forbidden):
        identity.admit(CALLERS[who], row.allow)


@pytest.mark.parametrize("row", service.operations, ids=lambda row: row.name)
async def test_example_is_taken_by_its_own_operation(auth, row):
    assert codec.convert(codec.plain(row.example), row.takes) == row.example
    if row.name not in {"verify-credentials", "sign-in", "refresh-token"}:
        if row.name == "explain":
            known = {"subject": row.example.id, "login": "a@b.c", "password": "demo-shop-pass"}
            await auth.ask("set-credentials", known, caller=USER)
        await auth.ask(row.name, row.example, caller=by(row))


@pytest.mark.parametrize("row", service.operations, ids=lambda row: row.name)
def test_unknown_members_are_refused(row):
    with pytest.raises(InvalidInput):
        codec.convert({**codec.plain(row.example), "extra": 1}, row.takes)


@pytest.mark.parametrize("row", service.operations, ids=lambda row: row.name)
def test_secrets_that_come_in_are_marked(row):
    secret = {"password", "refresh_token"} & set(codec.fields(row.takes))
    assert codec.secret_fields(row.takes) == secret


async def test_promises_hold_after_some_use(auth):
    for row in service.operations:
        if row.name not in {"verify-credentials", "sign-in", "refresh-token"}:
            await auth.ask(row.name, row.example, caller=by(row))
    assert auth.offenders() == {}
    assert len(service.invariants) == 3
