"""What user asks of auth, in its own words: what it sends, and which members it reads."""

from __future__ import annotations

from msgspec import Struct

from mesh.framework import Call, Policy
from mesh.services.user.messages import EndSessions, EraseCredentials, Role

AUTH_S = 1.5
"""For auth to hash a password: 30 ms of work, behind at most 18 others."""


class FirstCredentials(Struct, frozen=True):
    """What auth is to keep; with `replace` off it changes nothing that is there."""

    subject: str
    login: str
    password: str
    source: str
    replace: bool = False


class Kept(Struct, frozen=True):
    """What is read of auth's answer."""

    subject: str


class Shown(Struct, frozen=True):
    """What auth is to check."""

    login: str
    password: str
    source: str


class Proven(Struct, frozen=True):
    """Whose credentials they are, says auth."""

    subject: str


class SignIn(Struct, frozen=True):
    """What auth is to check, and for whom it is to open a session then; None: for nobody."""

    login: str
    password: str
    source: str
    subject: str | None
    roles: tuple[Role, ...]


class Grant(Struct, frozen=True):
    """Whom auth is to open a session for."""

    subject: str
    roles: tuple[Role, ...]


class SessionRef(Struct, frozen=True):
    """Which session auth is to end."""

    id: str


class Granted(Struct, frozen=True):
    """What is read of auth's answer."""

    access_token: str
    refresh_token: str
    expires_in: int


class SignedIn(Struct, frozen=True):
    """Whose credentials they are, says auth, and the session if they are that subject's."""

    subject: str
    tokens: Granted | None


SET_CREDENTIALS = Call(
    "auth", "PUT /credentials/{subject}", FirstCredentials, Kept, Policy(timeout_s=AUTH_S)
)
VERIFY_CREDENTIALS = Call(
    "auth", "POST /credentials/verify", Shown, Proven, Policy(timeout_s=AUTH_S)
)
SIGN_IN = Call("auth", "POST /credentials/sign-in", SignIn, SignedIn, Policy(timeout_s=AUTH_S))
ISSUE_TOKEN = Call("auth", "POST /tokens", Grant, Granted)
END_SESSION = Call("auth", "DELETE /sessions/{id}", SessionRef, type(None))
END_SESSIONS = Call(
    "auth",
    "POST /subjects/{subject}/end-sessions",
    EndSessions,
    type(None),
    repeatable=True,
)
ERASE_CREDENTIALS = Call("auth", "DELETE /credentials/{subject}", EraseCredentials, type(None))
