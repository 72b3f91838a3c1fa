"""The rules of passwords, the pace of guesses, refresh tokens and keys.

Pure but for the randomness of secrets and the list of common passwords, which is read once.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import secrets
from pathlib import Path

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError
from msgspec import Struct

from mesh.errors import Broken, InvalidInput, Throttled
from mesh.framework import tokens

MS_PER_S = 1000

SALT_BYTES = 16
HASH_BYTES = 32
HASHER = PasswordHasher(
    memory_cost=19_456, time_cost=2, parallelism=1, salt_len=SALT_BYTES, hash_len=HASH_BYTES
)
"""argon2id with the least memory and passes that OWASP's password cheat sheet admits.

One hash takes 19 MiB and about 30 ms, of which two run at a time.
"""

FREE_TRIES = 5
"""Failures in a row, of one login from one source, before they have to wait between tries."""

LOCK_S_MAX = 15 * 60
"""Longest wait between two tries. Who comes from another source does not wait at all: a stranger
can slow a user down but never lock one out."""

OPEN_MAX = 12
"""Guesses of one login from one source being hashed at a time, as long as none has failed."""

SOURCE_FAILURES = 20
"""Failures of one source, over all logins, within SOURCE_MS; then it waits until one is older."""

SOURCE_MS = 60 * MS_PER_S
SOURCE_OPEN = 10
"""Guesses of one source that may be in the pool beside its failures: 30 a minute reach the hash."""

OPEN_MS = 10 * MS_PER_S
"""A guess without an outcome after this was cut off by a crash; no hash takes as long."""

FORGET_MS = 3600 * MS_PER_S
"""Failures this long past count no more; what an attacker gains is five free tries an hour."""

ACCESS_S = tokens.ACCESS_S
"""Life of an access token, which nothing but its end or a revocation event stops."""

RETIRE_MS = (ACCESS_S + tokens.LEEWAY_S + 60) * MS_PER_S
"""A key stays published this long after its last signature, a minute more than any token lives."""

KEYS_MAX = 80
"""Keys published at a time: one that signs and the retiring ones of a rotation every ten seconds."""

REFRESH_MS = 30 * 24 * 3600 * MS_PER_S
"""Life of a session; using its refresh token does not prolong it."""

REFRESH_BYTES = 32

RETRY_MS = 10 * MS_PER_S
"""How long the answer to a refresh may be asked for again, by the same Idempotency-Key."""

SESSIONS_MAX = 100
"""Sessions a subject can have; opening one more ends the oldest."""


class Credentials(Struct, frozen=True):
    """What a subject logs in with; `hash` is a PHC string."""

    subject: str
    login: str
    hash: str
    version: int


class Tries(Struct, frozen=True):
    """Failed tries of one login from one source, and when (wall time) the next is let through."""

    failures: int
    locked_until_ms: int


class Pace(Struct, frozen=True):
    """What else bears on the next guess: those being hashed, and the source's failures.

    `full_since_ms` is when the SOURCE_FAILURES-th newest failure of the source was; None if
    there are fewer.
    """

    open: int
    source_open: int
    source_failures: int
    full_since_ms: int | None


class Session(Struct, frozen=True):
    """One refresh token of a session; the session itself is the `family`."""

    id: str
    subject: str
    family: str
    expires_at_ms: int
    revoked_at_ms: int | None = None


class PublicKey(Struct, frozen=True):
    """The half of a signing key that everybody may know; `public` is the JWK's `x`."""

    kid: str
    public: str


class Standing(Struct, frozen=True):
    """What is known of a subject, without the secrets."""

    changed_at_ms: int | None
    sessions: int
    failures: int
    locked_until_ms: int


def _phc_base64(raw: bytes) -> str:
    return base64.b64encode(raw).rstrip(b"=").decode()


def hash_of_nobody() -> str:
    """What the password of an unknown login is checked against: costs as much, matches none."""
    return (
        f"$argon2id$v=19$m={HASHER.memory_cost},t={HASHER.time_cost},p={HASHER.parallelism}"
        f"${_phc_base64(bytes(SALT_BYTES))}${_phc_base64(bytes(HASH_BYTES))}"
    )


def hash_password(password: str) -> str:
    """A PHC string with a salt of its own. CPU work: about 30 ms."""
    return HASHER.hash(password)


def matches(phc: str, password: str) -> bool:
    """Whether this is the password, exactly as received. CPU work: about 30 ms.

    Raises: Broken when the stored hash is none.
    """
    try:
        return HASHER.verify(phc, password)
    except VerifyMismatchError:
        return False
    except (VerificationError, InvalidHashError) as error:
        raise Broken(f"a stored password hash is damaged: {error}") from error


def is_outdated(phc: str) -> bool:
    """Whether it was made with other parameters than today's."""
    return HASHER.check_needs_rehash(phc)


def check_password(password: str) -> None:
    """Refuse what is tried first. There are no rules of composition.

    Raises: InvalidInput (code `password-too-common`).
    """
    if password.lower() in common_passwords():
        raise InvalidInput(
            "this password is among the most common ones",
            pointer="/password",
            code="password-too-common",
        )


def lock_s(failures: int) -> int:
    """The wait after that many failures: none, then 1, 2, 4 … seconds, at most LOCK_S_MAX."""
    if failures < FREE_TRIES:
        return 0
    doublings = min(failures - FREE_TRIES, LOCK_S_MAX.bit_length())
    return min(1 << doublings, LOCK_S_MAX)


@functools.cache
def common_passwords() -> frozenset[str]:
    """The most common ones of public leaks, as far as their length is admitted at all."""
    lines = Path(__file__).with_name("common_passwords.txt").read_text("utf-8").splitlines()
    return frozenset(line for line in lines if not line.startswith("#"))


def check_pace(tries: Tries | None, pace: Pace, now_ms: int) -> None:
    """Let a guess through to the hash, or not, for what else is being guessed.

    Raises: Throttled.
    """
    if pace.full_since_ms is not None:
        raise _too_many(pace.full_since_ms + SOURCE_MS - now_ms)
    if pace.source_failures + pace.source_open >= SOURCE_FAILURES + SOURCE_OPEN:
        raise _too_many(MS_PER_S)
    tries = _remembered(tries, now_ms)
    failures = tries.failures if tries else 0
    if pace.open >= (max(1, FREE_TRIES - failures) if failures else OPEN_MAX):
        raise _too_many(MS_PER_S)


def next_turn(tries: Tries | None, now_ms: int) -> Tries | None:
    """Ask for a try. None when tries are free, else the tries with this one counted in advance.

    Raises: Throttled.
    """
    tries = _remembered(tries, now_ms)
    if tries is None or tries.failures < FREE_TRIES:
        return None
    wait_ms = tries.locked_until_ms - now_ms
    if wait_ms > 0:
        raise _too_many(wait_ms)
    return _failed(tries.failures + 1, now_ms)


def after_failure(tries: Tries | None, now_ms: int) -> Tries:
    """The tries after a free one has failed.

    Of those that began together, only FREE_TRIES count.
    """
    tries = _remembered(tries, now_ms)
    if tries is not None and tries.failures >= FREE_TRIES:
        return tries
    return _failed(tries.failures + 1 if tries else 1, now_ms)


def _too_many(wait_ms: int) -> Throttled:
    return Throttled(
        "too many failed logins; wait before the next try",
        retry_after_s=max(1, -(-wait_ms // MS_PER_S)),
    )


def _failed(failures: int, now_ms: int) -> Tries:
    return Tries(failures, now_ms + lock_s(failures) * MS_PER_S)


def _remembered(tries: Tries | None, now_ms: int) -> Tries | None:
    forgotten = tries is None or tries.locked_until_ms < now_ms - FORGET_MS
    return None if forgotten else tries


def new_refresh_token(roles: tuple[str, ...]) -> str:
    """256 random bits after the session's roles, which are kept nowhere else.

    What is stored is a hash of the whole, so the roles cannot be changed by whoever holds it.
    """
    return ".".join((*roles, secrets.token_urlsafe(REFRESH_BYTES)))


def roles_in(refresh_token: str) -> tuple[str, ...]:
    """The roles it carries: to be believed once its hash has been found."""
    return tuple(refresh_token.split(".")[:-1])


def refresh_hash(refresh_token: str) -> bytes:
    """SHA-256: enough for a text that nobody can guess."""
    return hashlib.sha256(refresh_token.encode()).digest()


def is_lost_answer(spent: Session, successor: Session | None, now_ms: int) -> bool:
    """Whether a spent token is shown again only because its answer got lost.

    `successor` is what this very request, by its key, made the first time.
    """
    return (
        successor is not None
        and successor.family == spent.family
        and successor.revoked_at_ms is None
        and spent.revoked_at_ms is not None
        and now_ms - spent.revoked_at_ms <= RETRY_MS
    )
