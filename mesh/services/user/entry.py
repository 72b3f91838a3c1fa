"""How people come in and go, one function per operation.

Whatever lets somebody in asks auth first and fails closed: without auth's yes nothing is
returned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from mesh.errors import (
    Conflict,
    Forbidden,
    InvalidInput,
    MeshError,
    ServiceUnavailable,
    Throttled,
    Unauthenticated,
)
from mesh.services.user import calls, messages, model, store
from mesh.services.user.messages import Registered, SessionView, UserView

if TYPE_CHECKING:
    from mesh.framework import Call, Context, Tx
    from mesh.services.user.messages import Outcome
    from mesh.services.user.model import User

In = TypeVar("In")
Out = TypeVar("Out")


async def register(ctx: Context, request: messages.Register) -> UserView:
    """Take a new user.

    After a failure on our side the same key, or the same e-mail, goes on where it ended: the first
    password that reached auth stands, and a pending user has let nobody in. A user who is there
    already is shown only to a request that was seen before and proves the password again.

    Raises: Conflict (`email-taken`), InvalidInput (`password-too-common`); Throttled, also for
        a source that has met too many taken e-mails; ServiceUnavailable when auth is away.
    Effects, in order: 1. the user committed as `pending`
                       2. auth asked to keep the credentials; the user's id is their key
                       3. `active`, a customer, user.registered told, in one transaction
    """
    _check_probes(ctx)
    email = model.normal(request.email)
    user = store.user_by_email(ctx.read, email)
    if user is None:
        user = await ctx.write(_begin, ctx.entity_id("usr"), email, request.display_name)
    if user.status != "pending":
        return await _again(ctx, user, request.password)
    first = calls.FirstCredentials(user.id, email, request.password, ctx.source)
    try:
        await _ask_auth(ctx, calls.SET_CREDENTIALS, first)
    except InvalidInput as refusal:
        raise InvalidInput(refusal.detail, code=refusal.code, pointer="/password") from refusal
    except (Conflict, Unauthenticated):
        raise await _taken(ctx) from None
    return await ctx.conclude(activate, user.id, request.display_name)


async def login(ctx: Context, request: messages.Login) -> SessionView:
    """Open a session for whoever knows the password.

    Raises: Unauthenticated (`bad-credentials`), Forbidden (`user-suspended`), Throttled;
        ServiceUnavailable when auth is away.
    Effects, in order: 1. auth asked whose credentials these are, and for a session if they are
                          those of somebody who may come in; for anybody it is asked alike
                       2. the history's line committed
    """
    email = model.normal(request.email)
    named = store.user_by_email(ctx.read, email)
    active = named.id if named is not None and named.status == "active" else None
    roles = tuple(store.roles(ctx.read, active or ""))
    shown = calls.SignIn(email, request.password, ctx.source, active, roles)
    try:
        proven = await _ask_auth(ctx, calls.SIGN_IN, shown)
        user = model.check_may_log_in(store.user(ctx.read, proven.subject))
    except (Forbidden, Unauthenticated) as refusal:
        known = store.user_by_email(ctx.read, email)
        known_id = known.id if known else None
        await ctx.write(_note, ctx.new_id("lgn"), known_id, "refused", ctx.caller.subject)
        raise (refusal if isinstance(refusal, Forbidden) else model.bad_credentials()) from None
    if proven.tokens is None:  # it is active since just now, or has just got this e-mail
        return await _open_session(ctx, user, "accepted")
    return await _let_in(ctx, ctx.new_id("lgn"), user, roles, proven.tokens, "accepted")


async def act_as(ctx: Context, request: messages.ActAs) -> SessionView:
    """Open a session for the operator in the name of a user, without the password.

    Raises: NotFound, Conflict (`ambiguous-login`), Forbidden when the user is not active;
        ServiceUnavailable when auth is away.
    Effects, in order: 1. auth asked for a session 2. the history's line committed
    """
    name = model.normal(request.login)
    if "@" in name:
        known = store.user_by_email(ctx.read, name)
        found = [known] if known else []
    else:
        found = store.users_called(ctx.read, name)
    return await _open_session(ctx, model.the_one(found, name), "acted-as")


async def logout(ctx: Context, _: messages.NoMembers) -> None:
    """End the session whose token is shown, with its refresh token.

    Raises: ServiceUnavailable when auth is away; the session lives on then.
    Effects: auth has ended it; every service takes its access tokens no more once it hears so.
    """
    await _ask_auth(ctx, calls.END_SESSION, calls.SessionRef(ctx.caller.session))


async def change_password(ctx: Context, request: messages.ChangePassword) -> None:
    """Have another password from now on; every session ends, also this one.

    Raises: Forbidden (`wrong-password`), InvalidInput (`password-too-common`), Throttled;
        ServiceUnavailable when auth is away.
    Effects, in order: 1. auth asked whether the present password is right
                       2. auth asked to keep the new one, which ends the sessions
    """
    user = store.user(ctx.read, ctx.caller.id)
    if user is None:
        raise model.not_found(ctx.caller.id)
    try:
        shown = calls.Shown(user.email, request.password, ctx.source)
        proven = await _ask_auth(ctx, calls.VERIFY_CREDENTIALS, shown)
    except Unauthenticated:
        raise model.wrong_password() from None
    if proven.subject != user.id:
        raise model.wrong_password()
    wanted = calls.FirstCredentials(
        user.id, user.email, request.new_password, ctx.source, replace=True
    )
    try:
        await _ask_auth(ctx, calls.SET_CREDENTIALS, wanted)
    except InvalidInput as refusal:
        raise InvalidInput(refusal.detail, code=refusal.code, pointer="/new_password") from refusal


async def _again(ctx: Context, user: User, password: str) -> UserView:
    """The e-mail is somebody's: answer only a request that may have made it so itself."""
    if not ctx.resumed:
        raise await _taken(ctx)
    try:
        proven = await _ask_auth(
            ctx, calls.VERIFY_CREDENTIALS, calls.Shown(user.email, password, ctx.source)
        )
    except Unauthenticated:
        raise await _taken(ctx) from None
    found = store.user(ctx.read, user.id)
    if proven.subject != user.id or found is None:
        raise await _taken(ctx)
    return model.view(found, store.roles(ctx.read, user.id))


def _check_probes(ctx: Context) -> None:
    since_ms = ctx.now_ms - model.PROBES_MS
    full = store.probes_full_since(ctx.read, ctx.source, since_ms, model.PROBES_MAX)
    model.check_probes(full, ctx.now_ms)


async def _taken(ctx: Context) -> Conflict:
    """What tells that an e-mail is somebody's, counted."""
    since_ms = ctx.now_ms - model.PROBES_MS
    await ctx.write(store.note_probe, ctx.new_id("prb"), ctx.source, since_ms)
    return model.email_taken()


async def _ask_auth(
    ctx: Context, call: Call[In, Out], request: In, *, key: str | None = None
) -> Out:
    """Ask auth; what is neither a yes nor a no about the request is a 503.

    Raises: Conflict, InvalidInput, Throttled, Unauthenticated (`bad-credentials`): auth's no;
        ServiceUnavailable.
    """
    try:
        return await ctx.ask(call, request, key=key)
    except (Conflict, InvalidInput, Throttled):
        raise
    except MeshError as error:
        if error.code == model.BAD_CREDENTIALS:
            raise
        raise ServiceUnavailable(
            "identities cannot be checked just now: auth does not answer"
        ) from error


async def _open_session(ctx: Context, user: User, outcome: Outcome) -> SessionView:
    """Ask auth for a session, and let the user in with it."""
    login_id = ctx.new_id("lgn")
    roles = tuple(store.roles(ctx.read, user.id))
    granted = await _ask_auth(ctx, calls.ISSUE_TOKEN, calls.Grant(user.id, roles), key=login_id)
    return await _let_in(ctx, login_id, user, roles, granted, outcome)


async def _let_in(
    ctx: Context,
    login_id: str,
    user: User,
    roles: tuple[messages.Role, ...],
    granted: calls.Granted,
    outcome: Outcome,
) -> SessionView:
    """What auth has granted, unless the user has changed meanwhile: then nobody gets its tokens."""
    if not await ctx.write(_enter, login_id, user.id, roles, outcome, ctx.caller.subject):
        raise ServiceUnavailable("the roles have changed just now")
    return SessionView(
        access_token=granted.access_token,
        refresh_token=granted.refresh_token,
        expires_in=granted.expires_in,
        user_id=user.id,
        roles=roles,
    )


def _enter(
    tx: Tx,
    login_id: str,
    user_id: str,
    roles: tuple[messages.Role, ...],
    outcome: Outcome,
    client: str,
) -> bool:
    """Note who comes in; False when the roles are others by now. Raises: as for a login."""
    model.check_may_log_in(store.user(tx, user_id))
    if tuple(store.roles(tx, user_id)) != roles:
        return False
    _note(tx, login_id, user_id, outcome, client)
    return True


def _begin(tx: Tx, user_id: str, email: str, display_name: str) -> User:
    """The user of this e-mail: a new pending one, or who came first."""
    store.insert_pending(tx, user_id, email, display_name)
    user = store.user_by_email(tx, email)
    if user is None:
        raise Conflict("this Idempotency-Key has made another user", code="user-exists")
    return user


def activate(
    tx: Tx,
    user_id: str,
    display_name: str,
    roles: tuple[messages.Role, ...] = model.FIRST_ROLES,
) -> UserView:
    """Make a pending user active, once; whoever comes second is shown the same."""
    if store.activate(tx, user_id, display_name):
        for role in roles:
            store.grant(tx, user_id, role, granted_by=user_id)
        tx.tell(Registered(user_id, tuple(roles), version=2))
    user = store.user(tx, user_id)
    if user is None:
        raise model.not_found(user_id)
    return model.view(user, store.roles(tx, user_id))


def _note(tx: Tx, login_id: str, user_id: str | None, outcome: Outcome, client: str) -> None:
    store.sweep_logins(tx, tx.now_ms - model.KEEP_LOGINS_MS)
    store.note_login(tx, login_id, user_id, outcome, client)
