"""What crosses user's wall. Every input refuses unknown members."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from mesh.framework import PERSONAL, SECRET

PAGE_MAX = 100
"""Users in one answer."""

UserId = Annotated[
    str,
    Meta(
        pattern=r"^usr_[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$(?!\n)",
        examples=["usr_00000000-0000-7000-8000-000000000001"],
    ),
]
Email = Annotated[
    str,
    PERSONAL,
    Meta(
        pattern=r"^[!-?A-~]{1,64}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+$(?!\n)",
        max_length=254,
        description="Kept in lower case",
        examples=["carol@shop.example"],
    ),
]
NewPassword = Annotated[str, SECRET, Meta(min_length=8, max_length=128)]
Password = Annotated[str, SECRET, Meta(max_length=128)]
DisplayName = Annotated[str, PERSONAL, Meta(min_length=1, max_length=100)]
AddressId = Annotated[str, Meta(pattern=r"^adr_[0-9a-f-]{36}$(?!\n)")]
LoginId = Annotated[str, Meta(pattern=r"^lgn_[0-9a-f-]{36}$(?!\n)")]
OrderId = Annotated[str, Meta(pattern=r"^ord_[0-9a-f-]{36}$(?!\n)")]
Line = Annotated[str, PERSONAL, Meta(min_length=1, max_length=120)]
Postcode = Annotated[str, PERSONAL, Meta(min_length=1, max_length=20)]
Country = Annotated[
    str, PERSONAL, Meta(pattern=r"^[A-Z]{2}$(?!\n)", description="ISO 3166-1 alpha-2")
]
PageSize = Annotated[int, Meta(ge=1, le=PAGE_MAX)]
Role = Literal["customer", "staff", "admin"]
Status = Literal["pending", "active", "suspended", "closed"]
Outcome = Literal["accepted", "refused", "acted-as"]


class Register(Struct, frozen=True, forbid_unknown_fields=True):
    """A person who wants to buy."""

    email: Email
    password: NewPassword
    display_name: DisplayName


class Login(Struct, frozen=True, forbid_unknown_fields=True):
    """Proof of who one is. Anything that is no known e-mail is simply wrong."""

    email: Annotated[str, PERSONAL, Meta(min_length=1, max_length=254)]
    password: Password


class ActAs(Struct, frozen=True, forbid_unknown_fields=True):
    """The user to act as: an e-mail, or the part before its @ if that is nobody else's."""

    login: Annotated[str, PERSONAL, Meta(min_length=1, max_length=254)]


class NoMembers(Struct, frozen=True, forbid_unknown_fields=True):
    """A request without members."""


class GetUser(Struct, frozen=True, forbid_unknown_fields=True):
    """Which user."""

    id: UserId


class ListUsers(Struct, frozen=True, forbid_unknown_fields=True):
    """A page of users, the oldest first: all, those in a status, those with a role."""

    status: Status | None = None
    role: Role | None = None
    page_size: PageSize = 20
    page_token: UserId | None = None


class UpdateMe(Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be another in one's own profile."""

    display_name: DisplayName


class ChangePassword(Struct, frozen=True, forbid_unknown_fields=True):
    """The password one has, and the one to have from now on."""

    password: Password
    new_password: NewPassword


class AddAddress(Struct, frozen=True, forbid_unknown_fields=True):
    """An address of one's own."""

    name: Line
    line1: Line
    city: Line
    postcode: Postcode
    country: Country
    line2: Annotated[str, PERSONAL, Meta(max_length=120)] | None = None
    region: Annotated[str, PERSONAL, Meta(max_length=120)] | None = None


class AddressRef(Struct, frozen=True, forbid_unknown_fields=True):
    """Which of one's own addresses."""

    id: AddressId


class ListAddresses(Struct, frozen=True, forbid_unknown_fields=True):
    """A page of one's own addresses, the oldest first."""

    page_size: PageSize = 20
    page_token: AddressId | None = None


class RoleOf(Struct, frozen=True, forbid_unknown_fields=True):
    """A user, and a role to give or to take away."""

    id: UserId
    role: Role


class ListLogins(Struct, frozen=True, forbid_unknown_fields=True):
    """A page of a user's login history, the newest first."""

    id: UserId
    page_size: PageSize = 20
    page_token: LoginId | None = None


class ListOrders(Struct, frozen=True, forbid_unknown_fields=True):
    """A page of a user's orders as order has told of them, the newest first."""

    id: UserId
    page_size: PageSize = 20
    page_token: OrderId | None = None


class AddressView(Struct, frozen=True):
    """An address."""

    id: str
    name: Annotated[str, PERSONAL]
    line1: Annotated[str, PERSONAL]
    line2: Annotated[str, PERSONAL] | None
    city: Annotated[str, PERSONAL]
    region: Annotated[str, PERSONAL] | None
    postcode: Annotated[str, PERSONAL]
    country: Annotated[str, PERSONAL]


class AddressPage(Struct, frozen=True):
    """One page; `next_page_token` is null on the last."""

    items: tuple[AddressView, ...]
    next_page_token: str | None


class LoginView(Struct, frozen=True):
    """Somebody came in, or was refused. `client` is who asked: anyone, or the operator."""

    id: str
    at: str
    outcome: Outcome
    client: str


class LoginPage(Struct, frozen=True):
    """One page; `next_page_token` is null on the last."""

    items: tuple[LoginView, ...]
    next_page_token: str | None


class OrderSeen(Struct, frozen=True):
    """An order's newest status that was heard of."""

    order_id: str
    status: str
    version: int
    total_minor: int | None
    currency: str | None
    heard_at: str


class OrdersPage(Struct, frozen=True):
    """One page; `next_page_token` is null on the last."""

    items: tuple[OrderSeen, ...]
    next_page_token: str | None


class Explanation(Struct, frozen=True):
    """How a user stands, what is waited for, and what is possible."""

    id: str
    status: Status
    roles: tuple[Role, ...]
    version: int
    created_at: str
    waits_for: str | None
    possible: tuple[str, ...]
    logins: tuple[LoginView, ...]
    orders: tuple[OrderSeen, ...]


class UserView(Struct, frozen=True):
    """A user. `version` is its ETag."""

    id: str
    email: Annotated[str, PERSONAL]
    display_name: Annotated[str, PERSONAL]
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


class RolesChanged(Struct, frozen=True):
    """Told when a user got a role or lost one: `roles` are those that are left."""

    user_id: str
    roles: tuple[Role, ...]
    version: int


class Suspended(Struct, frozen=True):
    """Told when a user may not come in any more."""

    user_id: str
    version: int


class Reinstated(Struct, frozen=True):
    """Told when a suspended user may come in again."""

    user_id: str
    version: int


class Erased(Struct, frozen=True):
    """Told when a user is no more: whoever holds something of theirs forgets it."""

    user_id: str


class StatusChanged(Struct, frozen=True):
    """What is read of `order.status_changed`."""

    order_id: str
    user_id: str
    new: str
    version: int
    total_minor: int | None
    currency: str | None


class EndSessions(Struct, frozen=True):
    """Deferred: whose sessions auth is to end, and why."""

    subject: str
    reason: Literal["roles-changed", "suspended"]


class EraseCredentials(Struct, frozen=True):
    """Deferred: whose credentials auth is to forget."""

    subject: str


class SeedAddress(Struct, frozen=True, forbid_unknown_fields=True):
    """An address with a fixed id."""

    id: AddressId
    name: Line
    line1: Line
    city: Line
    postcode: Postcode
    country: Country


class SeedUser(Struct, frozen=True, forbid_unknown_fields=True):
    """One user with a fixed id; its credentials are in auth's seed."""

    id: UserId
    email: Email
    display_name: DisplayName
    roles: tuple[Role, ...] = ("customer",)
    addresses: tuple[SeedAddress, ...] = ()


class Seed(Struct, frozen=True, forbid_unknown_fields=True):
    """What a new mesh begins with."""

    users: tuple[SeedUser, ...] = ()
