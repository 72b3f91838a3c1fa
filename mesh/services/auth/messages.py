"""What crosses auth's wall. Every input refuses unknown members."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from mesh.framework import PERSONAL, SECRET

PASSWORD_CHARACTERS = (8, 128)
"""Fewer are guessed; more only cost time to hash. Counted in code points, as received."""

LOGIN_CHARACTERS_MAX = 254
"""The longest e-mail address that can be delivered to (RFC 5321)."""

Subject = Annotated[str, Meta(min_length=1, max_length=64)]
Login = Annotated[str, PERSONAL, Meta(min_length=1, max_length=LOGIN_CHARACTERS_MAX)]
Role = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9-]{0,30}$(?!\n)")]
Refresh = Annotated[str, SECRET, Meta(min_length=1, max_length=512)]
Source = Annotated[
    str, Meta(max_length=64, description="The address that the person who guesses came from")
]
SessionId = Annotated[str, Meta(pattern=r"^ses_[0-9a-f-]{36}$(?!\n)")]
Kid = Annotated[str, Meta(pattern=r"^[0-9a-f]{1,64}$(?!\n)")]


class SetCredentials(Struct, frozen=True, forbid_unknown_fields=True):
    """A login and password for a subject.

    `replace` says whether existing ones may be changed; without it a first password stands.
    """

    subject: Subject
    login: Login
    password: Annotated[
        str, SECRET, Meta(min_length=PASSWORD_CHARACTERS[0], max_length=PASSWORD_CHARACTERS[1])
    ]
    replace: bool = True
    source: Source = ""


class CredentialsView(Struct, frozen=True):
    """That a subject has credentials; never which."""

    subject: str
    version: int


class VerifyCredentials(Struct, frozen=True, forbid_unknown_fields=True):
    """A login and a password to check."""

    login: Login
    password: Annotated[str, SECRET, Meta(max_length=PASSWORD_CHARACTERS[1])]
    source: Source = ""


class Verified(Struct, frozen=True):
    """Whose credentials they are."""

    subject: str


class SignIn(Struct, frozen=True, forbid_unknown_fields=True):
    """A login and a password to check, and whom to open a session for if they are that subject's.

    `subject` null: for nobody, whoever it is.
    """

    login: Login
    password: Annotated[str, SECRET, Meta(max_length=PASSWORD_CHARACTERS[1])]
    source: Source = ""
    subject: Subject | None = None
    roles: Annotated[tuple[Role, ...], Meta(max_length=8)] = ()


class IssueToken(Struct, frozen=True, forbid_unknown_fields=True):
    """A subject to open a session for, and the roles its tokens shall name."""

    subject: Subject
    roles: Annotated[tuple[Role, ...], Meta(max_length=8)] = ()


class RefreshToken(Struct, frozen=True, forbid_unknown_fields=True):
    """A refresh token to exchange for the next one; it is good for one use."""

    refresh_token: Refresh


class RevokeToken(Struct, frozen=True, forbid_unknown_fields=True):
    """A refresh token whose session shall end."""

    refresh_token: Refresh


class Tokens(Struct, frozen=True):
    """What a session is used with (the members are OAuth's, RFC 6749). `expires_in` is seconds."""

    access_token: str
    refresh_token: str
    expires_in: int
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105  a scheme's name, not a secret


class SignedIn(Struct, frozen=True):
    """Whose credentials they are; `tokens` null: they are not those of the subject that was named."""

    subject: str
    tokens: Tokens | None


class SessionRef(Struct, frozen=True, forbid_unknown_fields=True):
    """Which session."""

    id: SessionId


class EndSessions(Struct, frozen=True, forbid_unknown_fields=True):
    """A subject whose sessions shall all end, and why."""

    subject: Subject
    reason: Literal["roles-changed", "suspended"]


class SubjectRef(Struct, frozen=True, forbid_unknown_fields=True):
    """Which subject."""

    subject: Subject


class Explain(Struct, frozen=True, forbid_unknown_fields=True):
    """Which subject."""

    id: Subject


class Explanation(Struct, frozen=True):
    """How a subject stands with auth: whether it has credentials, since when, what failed."""

    id: str
    credentials: bool
    changed_at: str | None
    sessions: int
    failures: int
    waits_for: str | None
    possible: tuple[str, ...]


class KeyRef(Struct, frozen=True, forbid_unknown_fields=True):
    """Which signing key."""

    kid: Kid


class NoMembers(Struct, frozen=True, forbid_unknown_fields=True):
    """A request without members."""


class Jwk(Struct, frozen=True):
    """A public signing key (RFC 8037)."""

    kty: str
    crv: str
    alg: str
    use: str
    kid: str
    x: str


class KeySet(Struct, frozen=True):
    """Every key that tokens in use may be signed with (RFC 7517)."""

    keys: tuple[Jwk, ...]


class Keys(Struct, frozen=True):
    """The key that signs from now on, and every published one. `changed`: whether that is new."""

    kid: str
    keys: tuple[Jwk, ...]
    changed: bool


class KeysChanged(Struct, frozen=True):
    """Told when the key set is another: `kid` is the key that signs from now on."""

    kid: str
    keys: tuple[Jwk, ...]


Ended = Literal[
    "signed-out", "reused-token", "credentials-changed", "roles-changed", "suspended", "erased"
]


class SessionRevoked(Struct, frozen=True):
    """Told when a session ended before its time.

    `until_ms` (wall time) is when the last of its access tokens is over by itself.
    """

    session_id: str
    subject: str
    reason: Ended
    until_ms: int


class UserChanged(Struct, frozen=True):
    """What is read of `user.roles_changed`, `user.suspended` and `user.erased`."""

    user_id: str


class SeedCredentials(Struct, frozen=True, forbid_unknown_fields=True):
    """One subject's credentials, hashed already."""

    subject: Subject
    login: Login
    hash: Annotated[str, Meta(pattern=r"^\$argon2id\$v=19\$m=\d+,t=\d+,p=\d+\$", max_length=256)]


class Seed(Struct, frozen=True, forbid_unknown_fields=True):
    """What a new mesh begins with."""

    credentials: tuple[SeedCredentials, ...] = ()
