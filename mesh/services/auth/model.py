"""The rules of passwords, lockouts and refresh tokens. Pure but for the randomness of secrets."""

from __future__ import annotations

import base64
import hashlib
import secrets

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError
from msgspec import Struct

from mesh.errors import Broken, InvalidInput, Throttled

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
"""Failures in a row before a login has to wait between tries."""

LOCK_S_MAX = 15 * 60
"""Longest wait between two tries: a stranger can slow a user down but never lock one out."""

FORGET_MS = 3600 * MS_PER_S
"""Failures this long past count no more; what an attacker gains is five free tries an hour."""

ACCESS_S = 600
"""Life of an access token, which nothing but its end or a revocation event stops."""

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
    """Failed tries of one login, and when (wall time) the next is let through."""

    failures: int
    locked_until_ms: int


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
    if password.lower() in COMMON:
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


def next_turn(tries: Tries | None, now_ms: int) -> Tries | None:
    """Ask for a try. None when tries are free, else the tries with this one counted in advance.

    Counting before the password is looked at makes tries that come at the same time wait for
    one another.

    Raises: Throttled.
    """
    tries = _remembered(tries, now_ms)
    if tries is None or tries.failures < FREE_TRIES:
        return None
    wait_ms = tries.locked_until_ms - now_ms
    if wait_ms > 0:
        raise Throttled(
            "too many failed logins; wait before the next try",
            retry_after_s=-(-wait_ms // MS_PER_S),
        )
    return _failed(tries.failures + 1, now_ms)


def after_failure(tries: Tries | None, now_ms: int) -> Tries:
    """The tries after a free one has failed.

    Of those that began together, only FREE_TRIES count.
    """
    tries = _remembered(tries, now_ms)
    if tries is not None and tries.failures >= FREE_TRIES:
        return tries
    return _failed(tries.failures + 1 if tries else 1, now_ms)


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


_WORDS = """
00000000 0123456789 01234567 0987654321 11111111 1111111111 11112222 11223344 1122334455 12121212
12341234 1234554321 123454321 12345678 123456789 1234567890 12345678910 123456789a 12345679
1234qwer 123123123 123321123 123qweasd 147258369 1q2w3e4r 1q2w3e4r5t 1qaz2wsx 1qazxsw2 19841984
22222222 55555555 66666666 77777777 87654321 88888888 987654321 99999999 a1234567 a12345678
aaaaaaaa abc12345 abcd1234 abcdefgh access14 adminadmin administrator alexander arsenal1 asdasdasd
asdf1234 asdfasdf asdfghjk asdfghjkl babygirl baseball basketball benjamin blink182 business
butterfly carolina caroline changeme charlie1 charlotte chelsea1 chocolate computer corvette
cowboys1 danielle december dolphins drowssap einstein elephant elizabeth explorer fireball
football football1 garfield goldfish hardcore hello123 helpless iloveyou iloveyou1 internet
jennifer jessica1 jonathan jordan23 justinbieber kimberly letmein1 letmein123 liverpool lovelove
maverick mercedes michael1 michelle midnight mustang1 nicholas nintendo october1 p@ssw0rd pa55word
passw0rd password password1 password12 password123 password1234 patricia pokemon1 princess
princess1 q1w2e3r4 q1w2e3r4t5 qazwsxedc qwer1234 qwerasdf qwerty12 qwerty123 qwerty1234
qwerty12345 qwertyui qwertyuiop rush2112 samantha scorpion slipknot snowball softball starwars
startrek steelers stephanie strawberry sunshine sunshine1 superman superman1 swordfish testtest
trustno1 undertaker valentina vanessa1 victoria welcome1 welcome123 whatever william1 xxxxxxxx
yankees1 zaq12wsx zxcvbnm1 zxcvbnm123
"""
COMMON = frozenset(_WORDS.split())
"""The most common passwords of public leaks, as far as their length is admitted at all."""
