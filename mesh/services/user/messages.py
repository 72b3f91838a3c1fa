"""What crosses user's wall, and what it says to auth. Every input refuses unknown members."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from mesh.framework import SECRET, Call, Policy

PAGE_MAX = 100
"""Users in one answer."""

AUTH_S = 1.5
"""For auth to hash a password: 30 ms of work, behind at most 18 others."""

UserId = Annotated[
    str,
    Meta(
        pattern=r"^usr_[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$(?!\n)",
        examples=["usr_00000000-0000-7000-8000-000000000001"],
    ),
]
Email = Annotated[
    str,
    Meta(
        pattern=r"^[!-?A-~]{1,64}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+$(?!\n)",
        max_length=254,
        description="Kept in lower case",
        examples=["carol@shop.example"],
    ),
]
NewPassword = Annotated[str, SECRET, Meta(min_length=8, max_length=128)]
Password = Annotated[str, SECRET, Meta(max_length=128)]
DisplayName = Annotated[str, Meta(min_length=1, max_length=100)]
Role = Literal["customer", "staff", "admin"]
Status = Literal["pending", "active", "suspended", "closed"]


class Register(Struct, frozen=True, forbid_unknown_fields=True):
    """A person who wants to buy."""

    email: Email
    password: NewPassword
    display_name: DisplayName


class Login(Struct, frozen=True, forbid_unknown_fields=True):
    """Proof of who one is. Anything that is no known e-mail is simply wrong."""

    email: Annotated[str, Meta(min_length=1, max_length=254)]
    password: Password


class ActAs(Struct, frozen=True, forbid_unknown_fields=True):
    """The user to act as: an e-mail, or the part before its @ if that is nobody else's."""

    login: Annotated[str, Meta(min_length=1, max_length=254)]


class NoMembers(Struct, frozen=True, forbid_unknown_fields=True):
    """A request without members."""


class GetUser(Struct, frozen=True, forbid_unknown_fields=True):
    """Which user."""

    id: UserId


class ListUsers(Struct, frozen=True, forbid_unknown_fields=True):
    """A page of users, the oldest first."""

    page_size: Annotated[int, Meta(ge=1, le=PAGE_MAX)] = 20
    page_token: UserId | None = None


class UserView(Struct, frozen=True):
    """A user. `version` is its ETag."""

    id: str
    email: str
    display_name: str
    status: Status
    roles: tuple[Role, ...]
    version: int
    created_at: str


class UserPage(Struct, frozen=True):
    """One page; `next_page_token` is null on the last."""

    items: tuple[UserView, ...]
    next_page_token: str | None


class SessionView(Struct, frozen=True):
    """A session that has been opened. `expires_in` is the access token's life in seconds."""

    access_token: str
    refresh_token: str
    expires_in: int
    user_id: str
    roles: tuple[Role, ...]
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105  a scheme's name, not a secret


class Registered(Struct, frozen=True):
    """Told once a user is active. Without personal data: who may know it, asks."""

    user_id: str
    roles: tuple[Role, ...]
    version: int


class SeedUser(Struct, frozen=True, forbid_unknown_fields=True):
    """One user with a fixed id; its credentials are in auth's seed."""

    id: UserId
    email: Email
    display_name: DisplayName
    roles: tuple[Role, ...] = ("customer",)


class Seed(Struct, frozen=True, forbid_unknown_fields=True):
    """What a new mesh begins with."""

    users: tuple[SeedUser, ...] = ()


class FirstCredentials(Struct, frozen=True):
    """What auth is to keep; with `replace` off it changes nothing that is there."""

    subject: str
    login: str
    password: str
    replace: bool = False


class Kept(Struct, frozen=True):
    """What is read of auth's answer."""

    subject: str


class Shown(Struct, frozen=True):
    """What auth is to check."""

    login: str
    password: str


class Proven(Struct, frozen=True):
    """Whose credentials they are, says auth."""

    subject: str


class Grant(Struct, frozen=True):
    """Whom auth is to open a session for."""

    subject: str
    roles: tuple[Role, ...]


class Granted(Struct, frozen=True):
    """What is read of auth's answer."""

    access_token: str
    refresh_token: str
    expires_in: int


SET_CREDENTIALS = Call(
    "auth", "PUT /credentials/{subject}", FirstCredentials, Kept, Policy(timeout_s=AUTH_S)
)
VERIFY_CREDENTIALS = Call(
    "auth", "POST /credentials/verify", Shown, Proven, Policy(timeout_s=AUTH_S)
)
ISSUE_TOKEN = Call("auth", "POST /tokens", Grant, Granted)
