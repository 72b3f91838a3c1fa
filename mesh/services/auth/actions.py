"""What auth is asked, one function per operation.

A password or a token is never logged, told or stored as it is; what is stored under an
Idempotency-Key would be, so actions that answer with tokens store no answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from mesh.errors import Conflict, NotFound, Unauthenticated
from mesh.framework import facts, iso, tokens
from mesh.services.auth import guessing, keys, model, store
from mesh.services.auth.messages import (
    CredentialsView,
    Explanation,
    Keys,
    KeySet,
    SessionRevoked,
    SignedIn,
    Tokens,
    Verified,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from mesh.framework import Context, Tx
    from mesh.services.auth.messages import (
        Ended,
        EndSessions,
        Explain,
        IssueToken,
        KeyRef,
        NoMembers,
        RefreshToken,
        RevokeToken,
        Seed,
        SessionRef,
        SetCredentials,
        SignIn,
        SubjectRef,
        VerifyCredentials,
    )
    from mesh.services.auth.model import Credentials, Session

T = TypeVar("T")

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
    if known is None or request.replace:
        phc = await ctx.compute(model.hash_password, request.password)
        made = await ctx.write(_set, request, phc)
        if made is not None:
            return made
        known = store.credentials_of(ctx.read, request.subject)
    if (
        known is not None
        and known.login == request.login
        and await guessing.guess(ctx, known, request, _no_more)
    ):
        return CredentialsView(known.subject, known.version)
    raise Conflict("this subject has credentials already", code="credentials-exist")


async def verify_credentials(ctx: Context, request: VerifyCredentials) -> Verified:
    """Say whose login and password these are.

    An unknown login costs and answers the same as a wrong password.

    Raises: Unauthenticated (`bad-credentials`), Throttled, Overloaded.
    Effects: a failure is counted, for this login and the source and for the source alone; a
        success clears the former and renews an outdated hash.
    """
    known, _ = await _proven(ctx, request, _no_more)
    return Verified(known.subject)


async def sign_in(ctx: Context, request: SignIn) -> SignedIn:
    """Check a login and a password as `verify_credentials` does, and open a session at once.

    That is done for the subject that was named, whom user has found fit to come in, or for nobody.

    Raises: Unauthenticated (`bad-credentials`), Throttled, Overloaded.
    Effects: as of verify_credentials and issue_token, the success and the session in one transaction.
    """
    refresh = model.new_refresh_token(request.roles)
    session_id = ctx.entity_id("ses")

    def enter(tx: Tx, known: Credentials) -> tuple[tokens.SigningKey, Session] | None:
        if known.subject != request.subject:
            return None
        return _open(tx, session_id, known.subject, model.refresh_hash(refresh))

    known, opened = await _proven(ctx, request, enter)
    if opened is None:
        return SignedIn(known.subject, None)
    key, session = opened
    return SignedIn(known.subject, _tokens(ctx, key, session, request.roles, refresh))


async def _proven(
    ctx: Context,
    request: VerifyCredentials | SignIn,
    then: Callable[[Tx, Credentials], T],
) -> tuple[Credentials, T]:
    """Whose login and password these are, and what else their success brought about."""
    known = store.credentials_by_login(ctx.read, request.login)
    found = await guessing.guess(ctx, known, request, then)
    if known is None or found is None:
        raise Unauthenticated("the login or the password is wrong", code="bad-credentials")
    if model.is_outdated(known.hash):
        phc = await ctx.compute(model.hash_password, request.password)
        await ctx.write(store.rehash, known, phc)
    return known, found[0]


def _no_more(_: Tx, known: Credentials) -> None:
    """That the password is right is all that was asked."""


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


async def end_session(ctx: Context, request: SessionRef) -> None:
    """End one session, for user; one that is over or unknown is answered the same.

    Effects: the session ends and auth.session_revoked is told, in one transaction.
    """
    await ctx.write(_sign_off, request.id)


async def end_sessions(ctx: Context, request: EndSessions) -> None:
    """End every session of a subject, whose rights have changed.

    Effects: they end and auth.session_revoked is told of each, in one transaction.
    """
    await ctx.write(end_all, request.subject, request.reason)


async def erase_credentials(ctx: Context, request: SubjectRef) -> None:
    """Forget a subject: its login, its hash, its sessions, what was guessed at it.

    Effects: they end and auth.session_revoked is told of each, in one transaction; the bytes are
        gone soon after.
    """
    await ctx.write_aside(_erase, request.subject)


async def explain(ctx: Context, request: Explain) -> Explanation:
    """Tell how a subject stands with auth: sessions, failed logins, what it waits for.

    Raises: NotFound when nothing is known of it.
    """
    now_ms = ctx.now_ms
    found = store.standing(ctx.read, request.id, now_ms)
    if found.changed_at_ms is None and not found.sessions:
        raise NotFound(f"auth knows no subject {request.id}", code="no-such-subject")
    known = found.changed_at_ms is not None
    locked = found.locked_until_ms > now_ms and found.failures >= model.FREE_TRIES
    until = iso(found.locked_until_ms) if locked else None
    return Explanation(
        id=request.id,
        credentials=known,
        changed_at=iso(found.changed_at_ms) if found.changed_at_ms else None,
        sessions=found.sessions,
        failures=found.failures,
        waits_for=f"{until}: too many failed logins from one source" if until else None,
        possible=(*(("log in",) if known else ()), *(("revoke",) if found.sessions else ())),
    )


async def rotate_keys(ctx: Context, _: NoMembers) -> Keys:
    """Sign with a new key from now on; the one before stays published while tokens of it live.

    Raises: Conflict (`too-many-keys`) when KEYS_MAX are published.
    Effects: both keys and auth.keys_changed in one transaction.
    """
    return await ctx.write(keys.rotate)


async def revoke_key(ctx: Context, request: KeyRef) -> Keys:
    """Take a key out of the key set at once, with every access token that it has signed.

    For a key that is in the wrong hands. Sessions go on: their refresh tokens are no work of
    any key. A key that is not there is gone already.

    Effects: a new key if it was the one that signs, and auth.keys_changed, in one transaction.
    """
    return await ctx.write(keys.revoke, request.kid)


async def jwks(ctx: Context, _: NoMembers) -> KeySet:
    """The keys that access tokens are signed with.

    Effects: the first key, if there was none.
    """
    found = store.published_keys(ctx.read, ctx.now_ms)
    return KeySet(keys.published(found or await ctx.write(keys.first)))


def plant(tx: Tx, seed: Seed) -> None:
    """Credentials that a new mesh begins with."""
    for row in seed.credentials:
        store.put_credentials(tx, row.subject, row.login, row.hash)


def _set(tx: Tx, request: SetCredentials, phc: str) -> CredentialsView | None:
    """Keep them; None where there are some by now that are not to be replaced.

    The same request may have made them, sent before and given up by who asked.
    """
    subject, login = request.subject, request.login
    if not request.replace and store.credentials_of(tx, subject) is not None:
        return None
    holder = store.credentials_by_login(tx, login)
    if holder is not None and holder.subject != subject:
        raise Conflict("this login belongs to another subject", code="login-taken")
    version = store.put_credentials(tx, subject, login, phc)
    store.clear_tries(tx, login)
    end_all(tx, subject, "credentials-changed")
    return CredentialsView(subject, version)


def _open(
    tx: Tx, session_id: str, subject: str, refresh_hash: bytes
) -> tuple[tokens.SigningKey, Session]:
    key = keys.signing(tx)
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
    return keys.signing(tx), successor


def _put(tx: Tx, session: Session, refresh_hash: bytes) -> None:
    if not store.put_session(tx, session, refresh_hash):
        raise Conflict("this Idempotency-Key has made another session", code="session-exists")


def _sign_out(tx: Tx, shown_hash: bytes) -> None:
    shown = store.session_by_hash(tx, shown_hash)
    if shown is not None:
        _end(tx, shown.family, shown.subject, "signed-out")


def _sign_off(tx: Tx, session_id: str) -> None:
    first = store.session(tx, session_id)
    if first is not None:
        _end(tx, first.family, first.subject, "signed-out")


def end_all(tx: Tx, subject: str, reason: Ended) -> None:
    """End every session of a subject."""
    for family in store.live_families(tx, subject):
        _end(tx, family, subject, reason)


def _erase(tx: Tx, subject: str) -> None:
    tx.erase(subject)


def forget(tx: Tx, subject: str) -> None:
    """Delete all that is known of a subject. Once more does nothing."""
    end_all(tx, subject, "erased")
    store.delete_sessions(tx, subject)
    store.delete_credentials(tx, subject)


def _end(tx: Tx, family: str, subject: str, reason: Ended) -> None:
    """End a session, and tell it if it was not over already."""
    if store.revoke_live(tx, family):
        until_ms = tx.now_ms + model.ACCESS_S * model.MS_PER_S
        tx.tell(SessionRevoked(family, subject, reason, until_ms))


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
