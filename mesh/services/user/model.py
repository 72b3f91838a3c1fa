"""The rules: what form an e-mail has, who may log in, who may see whom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from mesh.errors import Conflict, Forbidden, NotFound, Unauthenticated
from mesh.framework import iso
from mesh.services.user.messages import Role, Status, UserView

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mesh.framework import Caller

FIRST_ROLES: tuple[Role, ...] = ("customer",)
"""What everybody who registers is."""

KEEP_LOGINS_MS = 90 * 24 * 3600 * 1000
"""How long the login history goes back."""

BAD_CREDENTIALS = "bad-credentials"

Outcome = Literal["accepted", "refused", "acted-as"]


class User(Struct, frozen=True):
    """A user as it is stored; the roles are grants of their own."""

    id: str
    email: str
    display_name: str
    status: Status
    version: int
    created_at_ms: int


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
