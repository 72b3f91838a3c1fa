"""The rules: what form an e-mail has, who may log in, who may see whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from mesh.errors import Conflict, Forbidden, NotFound, Throttled, Unauthenticated
from mesh.framework import iso
from mesh.services.user.messages import (
    LoginView,
    OrderSeen,
    Outcome,
    Role,
    Status,
    UserView,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mesh.framework import Caller

FIRST_ROLES: tuple[Role, ...] = ("customer",)
"""What everybody who registers is."""

KEEP_LOGINS_MS = 90 * 24 * 3600 * 1000
"""How long the login history goes back."""

BAD_CREDENTIALS = "bad-credentials"

ADDRESSES_MAX = 20
"""Addresses a user can have: nobody ships to more places, and all are shown on one page."""

PROBES_MAX = 20
PROBES_MS = 60 * 1000
"""A source learns of at most so many e-mails in that time whether somebody has registered them."""

EXPLAINED_MAX = 5
"""Logins and orders that an explanation shows: the newest."""


class User(Struct, frozen=True):
    """A user as it is stored; the roles are grants of their own."""

    id: str
    email: str
    display_name: str
    status: Status
    version: int
    created_at_ms: int


class Login(Struct, frozen=True):
    """A line of the login history as it is stored."""

    id: str
    at_ms: int
    outcome: Outcome
    client: str


class Seen(Struct, frozen=True):
    """An order as it was last heard of."""

    order_id: str
    status: str
    version: int
    total_minor: int | None
    currency: str | None
    heard_at_ms: int


class GrantRow(Struct, frozen=True):
    """A role somebody has."""

    user_id: str
    role: Role


def normal(email: str) -> str:
    """One form for an e-mail, however it was typed. Addresses here are ASCII."""
    return email.lower()


def bad_credentials() -> Unauthenticated:
    """The one answer to an unknown e-mail, a wrong password and an account that is closed."""
    return Unauthenticated("the e-mail or the password is wrong", code=BAD_CREDENTIALS)


def wrong_password() -> Forbidden:
    """Somebody is logged in, but does not know the password."""
    return Forbidden("the present password is another", code="wrong-password")


def email_taken() -> Conflict:
    """Somebody else has registered it."""
    return Conflict("this e-mail belongs to an account already", code="email-taken")


def check_may_log_in(user: User | None) -> User:
    """Let an active user in; say why not only to somebody who has proven who they are.

    Raises: Forbidden (`user-suspended`), Unauthenticated.
    """
    if user is None or user.status in {"pending", "closed"}:
        raise bad_credentials()
    if user.status == "suspended":
        raise Forbidden("this account is suspended", code="user-suspended")
    return user


def check_probes(full_since_ms: int | None, now_ms: int) -> None:
    """Let a source learn of one more e-mail that it is taken.

    Args:
        full_since_ms: when the PROBES_MAX-th newest was; None if there are fewer.

    Raises: Throttled.
    """
    if full_since_ms is not None:
        wait_s = (full_since_ms + PROBES_MS - now_ms) / 1000
        raise Throttled("too many e-mails that are taken; wait a little", retry_after_s=wait_s)


def check_not_pending(user: User) -> User:
    """Of somebody who has not finished registering there is nothing to change.

    Raises: Conflict (`user-pending`).
    """
    if user.status == "pending":
        raise Conflict("this user has not finished registering", code="user-pending")
    return user


def check_admin_left(admins: int) -> None:
    """Somebody must be left who can make others an admin.

    Args:
        admins: active ones beside the one that is about to be none.

    Raises: Conflict (`last-admin`).
    """
    if not admins:
        raise Conflict("this is the last admin: make somebody else one first", code="last-admin")


def possible(user: User) -> tuple[str, ...]:
    """What an admin may do with a user in this status."""
    return {
        "pending": ("erase",),
        "active": ("grant", "revoke", "suspend", "erase"),
        "suspended": ("grant", "revoke", "reinstate", "erase"),
        "closed": ("erase",),
    }[user.status]


def waits_for(user: User) -> str | None:
    """What would move a user on."""
    return {
        "pending": "the registration to be sent again: auth did not answer",
        "suspended": "an admin to reinstate the account",
    }.get(user.status)


def login_view(row: Login) -> LoginView:
    """A line of the login history as it is shown."""
    return LoginView(id=row.id, at=iso(row.at_ms), outcome=row.outcome, client=row.client)


def order_view(row: Seen) -> OrderSeen:
    """An order as it was last heard of."""
    return OrderSeen(
        row.order_id,
        row.status,
        row.version,
        row.total_minor,
        row.currency,
        iso(row.heard_at_ms),
    )


def the_one(found: Sequence[User], login: str) -> User:
    """The user that the operator means.

    Raises: NotFound; Conflict when several begin like that; Forbidden when not active.
    """
    if not found:
        raise NotFound(f"no user {login}", code="no-such-user")
    if len(found) > 1:
        raise Conflict(f"several users are called {login}: use the e-mail", code="ambiguous-login")
    user = found[0]
    if user.status != "active":
        raise Forbidden(f"{login} is {user.status}", code=f"user-{user.status}")
    return user


def check_may_see(caller: Caller, user_id: str) -> None:
    """Oneself, or anybody as an admin; for others a user is not there.

    Raises: NotFound.
    """
    if caller.id != user_id and not caller.has("admin"):
        raise not_found(user_id)


def not_found(user_id: str) -> NotFound:
    """No such user, or none for you."""
    return NotFound(f"no user {user_id}", code="no-such-user")


def view(user: User, roles: Sequence[Role]) -> UserView:
    """A user as it is shown."""
    return UserView(
        id=user.id,
        email=user.email,
        display_name=user.display_name,
        status=user.status,
        roles=tuple(roles),
        version=user.version,
        created_at=iso(user.created_at_ms),
    )
