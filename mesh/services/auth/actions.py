"""What auth is asked, one function per operation.

A password or a token is never logged, told or stored as it is; what is stored under an
Idempotency-Key would be, so actions that answer with tokens store no answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh.errors import Conflict, Unauthenticated
from mesh.framework import facts, tokens
from mesh.services.auth import model, store
from mesh.services.auth.messages import (
    CredentialsView,
    Jwk,
    KeysChanged,
    KeySet,
    SessionRevoked,
    Tokens,
    Verified,
)

if TYPE_CHECKING:
    from typing import Literal

    from mesh.framework import Context, Tx
    from mesh.services.auth.messages import (
        IssueToken,
        NoMembers,
        RefreshToken,
        RevokeToken,
        Seed,
        SetCredentials,
        VerifyCredentials,
    )
    from mesh.services.auth.model import Credentials, PublicKey, Session

ISSUER = "auth"


async def set_credentials(ctx: Context, request: SetCredentials) -> CredentialsView:
    """Give a subject a login and a password.

    With `replace` off it may be sent again as it was, but never changes what is there.

    Raises: InvalidInput (`password-too-common`), Conflict (`credentials-exist`, `login-taken`);
        Throttled, since finding the same password again is a guess like any other.
    Effects: one transaction; with what is changed, the subject's sessions end.
    """
    model.check_password(request.password)
    known = store.credentials_of(ctx.read, request.subject)
    if known is not None and not request.replace:
        if known.login == request.login and await _is_right(ctx, known, known.login, request):
            return CredentialsView(known.subject, known.version)
        raise _exist()
    phc = await ctx.compute(model.hash_password, request.password)
    return await ctx.write(_set, request.subject, request.login, phc, replace=request.replace)


async def verify_credentials(ctx: Context, request: VerifyCredentials) -> Verified:
    """Say whose login and password these are.

    An unknown login costs and answers the same as a wrong password.

    Raises: Unauthenticated (`bad-credentials`), Throttled, Overloaded.
    Effects: a failure is counted; a success clears the count and renews an outdated hash.
    """
    known = store.credentials_by_login(ctx.read, request.login)
    if not await _is_right(ctx, known, request.login, request) or known is None:
        raise Unauthenticated("the login or the password is wrong", code="bad-credentials")
    if model.is_outdated(known.hash):
        phc = await ctx.compute(model.hash_password, request.password)
        await ctx.write(store.rehash, known, phc)
    return Verified(known.subject)


async def issue_token(ctx: Context, request: IssueToken) -> Tokens:
    """Open a session for a subject that user has checked.

    Effects: one transaction, with the signing key if there was none. Sent again with its key it
        gives the same session another refresh token.
    """
    refresh = model.new_refresh_token(request.roles)
    key, session = await ctx.write(
        _open, ctx.entity_id("ses"), request.subject, model.refresh_hash(refresh)
    )
    return _tokens(ctx, key, session, request.roles, refresh)


async def refresh_token(ctx: Context, request: RefreshToken) -> Tokens:
    """Exchange a refresh token for the next one and an access token.

    It is good for one use. Shown again it ends the session, except by the same request (its
    Idempotency-Key) within RETRY_MS, whose answer may have got lost.

    Raises: Unauthenticated (`bad-refresh-token`).
    """
    roles = model.roles_in(request.refresh_token)
    refresh = model.new_refresh_token(roles)
    shown = model.refresh_hash(request.refresh_token)
    turned = await ctx.write(_rotate, shown, ctx.entity_id("ses"), model.refresh_hash(refresh))
    if turned is None:
        ctx.log.warning("a refresh token was refused", extra=facts(trace_id=ctx.trace.trace_id))
        raise Unauthenticated("the refresh token does not hold", code="bad-refresh-token")
    key, session = turned
    return _tokens(ctx, key, session, roles, refresh)


async def revoke_token(ctx: Context, request: RevokeToken) -> None:
    """End the session of a refresh token; one that means nothing is answered the same (RFC 7009).

    Effects: the session ends and auth.session_revoked is told, in one transaction.
    """
    await ctx.write(_sign_out, model.refresh_hash(request.refresh_token))


async def jwks(ctx: Context, _: NoMembers) -> KeySet:
    """The keys that access tokens are signed with.

    Effects: the first key, if there was none.
    """
    keys = store.published_keys(ctx.read, ctx.now_ms)
    return KeySet(_jwks(keys or await ctx.write(_first_keys)))


def plant(tx: Tx, seed: Seed) -> None:
    """Credentials that a new mesh begins with."""
    for row in seed.credentials:
        store.put_credentials(tx, row.subject, row.login, row.hash)


async def _is_right(
    ctx: Context, known: Credentials | None, login: str, shown: SetCredentials | VerifyCredentials
) -> bool:
    """Whether the password is right, at the pace that earlier failures of this login allow.

    Raises: Throttled, before any hashing; Overloaded.
    """
    tries = store.tries(ctx.read, login)
    counted = model.next_turn(tries, ctx.now_ms) is not None
    if counted:
        await ctx.write(_take_turn, login)
    phc = model.hash_of_nobody() if known is None else known.hash
    right = await ctx.compute(model.matches, phc, shown.password)
    if right and tries is not None:
        await ctx.write(store.clear_tries, login)
    elif not right and not counted:
        await ctx.write(_count_failure, login)
    return right


def _take_turn(tx: Tx, login: str) -> None:
    counted = model.next_turn(store.tries(tx, login), tx.now_ms)
    if counted is not None:
        store.put_tries(tx, login, counted)


def _count_failure(tx: Tx, login: str) -> None:
    store.sweep_tries(tx, tx.now_ms - model.FORGET_MS)
    store.put_tries(tx, login, model.after_failure(store.tries(tx, login), tx.now_ms))


def _exist() -> Conflict:
    return Conflict("this subject has credentials already", code="credentials-exist")


def _set(tx: Tx, subject: str, login: str, phc: str, *, replace: bool) -> CredentialsView:
    before = store.credentials_of(tx, subject)
    if before is not None and not replace:
        raise _exist()
    holder = store.credentials_by_login(tx, login)
    if holder is not None and holder.subject != subject:
        raise Conflict("this login belongs to another subject", code="login-taken")
    version = store.put_credentials(tx, subject, login, phc)
    store.clear_tries(tx, login)
    for family in store.live_families(tx, subject):
        _end(tx, family, subject, "credentials-changed")
    return CredentialsView(subject, version)


def _open(
    tx: Tx, session_id: str, subject: str, refresh_hash: bytes
) -> tuple[tokens.SigningKey, Session]:
    key = _signing_key(tx)
    session = model.Session(session_id, subject, session_id, tx.now_ms + model.REFRESH_MS)
    _put(tx, session, refresh_hash)
    store.evict_sessions(tx, subject, model.SESSIONS_MAX)
    store.sweep_sessions(tx)
    return key, session


def _rotate(
    tx: Tx, shown_hash: bytes, successor_id: str, refresh_hash: bytes
) -> tuple[tokens.SigningKey, Session] | None:
    """Spend the token shown and make its successor; None when it is not good for one.

    A reuse is an answer and no error, because what it revokes must be committed.
    """
    shown = store.session_by_hash(tx, shown_hash)
    if shown is None or shown.expires_at_ms <= tx.now_ms:
        return None
    if shown.revoked_at_ms is None:
        store.revoke_live(tx, shown.family)
    elif not model.is_lost_answer(shown, store.session(tx, successor_id), tx.now_ms):
        _end(tx, shown.family, shown.subject, "reused-token")
        return None
    successor = model.Session(successor_id, shown.subject, shown.family, shown.expires_at_ms)
    _put(tx, successor, refresh_hash)
    return _signing_key(tx), successor


def _put(tx: Tx, session: Session, refresh_hash: bytes) -> None:
    if not store.put_session(tx, session, refresh_hash):
        raise Conflict("this Idempotency-Key has made another session", code="session-exists")


def _sign_out(tx: Tx, shown_hash: bytes) -> None:
    shown = store.session_by_hash(tx, shown_hash)
    if shown is not None:
        _end(tx, shown.family, shown.subject, "signed-out")


def _end(
    tx: Tx,
    family: str,
    subject: str,
    reason: Literal["signed-out", "reused-token", "credentials-changed"],
) -> None:
    """End a session, and tell it if it was not over already."""
    if store.revoke_live(tx, family):
        tx.tell(SessionRevoked(family, subject, reason))


def _signing_key(tx: Tx) -> tokens.SigningKey:
    """The key that signs; made and told of when it is first needed."""
    found = store.signing_key(tx)
    if found is not None:
        return found
    new = tokens.new_key()
    store.put_signing_key(tx, new)
    tx.tell(KeysChanged(new.kid, _jwks(store.published_keys(tx, tx.now_ms))))
    return new


def _first_keys(tx: Tx) -> list[PublicKey]:
    _signing_key(tx)
    return store.published_keys(tx, tx.now_ms)


def _jwks(keys: list[PublicKey]) -> tuple[Jwk, ...]:
    return tuple(Jwk(**tokens.jwk(key.kid, key.public)) for key in keys)


def _tokens(
    ctx: Context,
    key: tokens.SigningKey,
    session: Session,
    roles: tuple[str, ...],
    refresh: str,
) -> Tokens:
    now_s = ctx.now_ms // model.MS_PER_S
    claims = tokens.Claims(
        iss=ISSUER,
        sub=session.subject,
        aud=ctx.project,
        iat=now_s,
        exp=now_s + model.ACCESS_S,
        sid=session.family,
        roles=roles,
    )
    access = tokens.sign(key, claims, typ=tokens.USER_TOKEN)
    return Tokens(access, refresh, model.ACCESS_S)
