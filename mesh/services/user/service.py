"""user as a table."""

from __future__ import annotations

from mesh.framework import (
    ANYONE,
    OPERATOR,
    USER,
    Agreement,
    Invariant,
    Operation,
    Seed,
    Service,
    Tells,
    roles,
)
from mesh.services.user import actions, messages, promises

ALICE = "usr_00000000-0000-7000-8000-000000000001"

service = Service(
    name="user",
    summary="Who is served: profiles, status, roles, login history.",
    operations=(
        Operation(
            "register",
            "POST /users",
            actions.register,
            messages.Register,
            messages.UserView,
            allow=ANYONE,
            example=messages.Register("carol@shop.example", "demo-shop-pass", "Carol"),
            status=201,
            key="optional",
        ),
        Operation(
            "login",
            "POST /sessions",
            actions.login,
            messages.Login,
            messages.SessionView,
            allow=ANYONE,
            example=messages.Login("alice@shop.example", "demo-shop-pass"),
            status=201,
        ),
        Operation(
            "act-as",
            "POST /sessions/act-as",
            actions.act_as,
            messages.ActAs,
            messages.SessionView,
            allow=OPERATOR,
            example=messages.ActAs("alice"),
            status=201,
        ),
        Operation(
            "me",
            "GET /users/me",
            actions.me,
            messages.NoMembers,
            messages.UserView,
            allow=USER,
            example=messages.NoMembers(),
        ),
        Operation(
            "get",
            "GET /users/{id}",
            actions.get,
            messages.GetUser,
            messages.UserView,
            allow=USER,
            example=messages.GetUser(ALICE),
        ),
        Operation(
            "list",
            "GET /users",
            actions.list_users,
            messages.ListUsers,
            messages.UserPage,
            allow=roles("admin"),
            example=messages.ListUsers(),
        ),
    ),
    asks=(messages.SET_CREDENTIALS, messages.VERIFY_CREDENTIALS, messages.ISSUE_TOKEN),
    tells=(Tells("user.registered", messages.Registered, key="user_id"),),
    invariants=(
        Invariant(
            "registered-once",
            "A user is told of as registered once.",
            promises.TOLD_ONCE,
            of="users",
        ),
        Invariant(
            "pending-have-nothing",
            "A pending user has no role and has not been told of.",
            promises.PENDING_HAVE_NOTHING,
            of="users",
        ),
    ),
    agreements=(
        Agreement(
            "active-can-log-in",
            "An active user has credentials at auth.",
            promises.ACTIVE_WITHOUT_CREDENTIALS,
            of="users",
            beside=("auth",),
        ),
    ),
    seed=Seed(messages.Seed, actions.plant),
)
