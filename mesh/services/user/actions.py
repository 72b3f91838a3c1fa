"""What user is asked about people, one function per operation; how they come in is in `entry`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh.errors import Conflict, NotFound
from mesh.framework import check_match
from mesh.services.user import calls, entry, messages, model, store
from mesh.services.user.messages import (
    AddressPage,
    AddressView,
    Erased,
    Explanation,
    LoginPage,
    OrdersPage,
    Reinstated,
    RolesChanged,
    Suspended,
    UserPage,
    UserView,
)

if TYPE_CHECKING:
    from mesh.framework import Caller, Context, Reader, Tx
    from mesh.services.user.model import User


async def me(ctx: Context, _: messages.NoMembers) -> UserView:
    """Show the caller."""
    return _shown(ctx.read, ctx.caller.id)


async def update_me(ctx: Context, request: messages.UpdateMe) -> UserView:
    """Change the caller's own profile.

    Raises: PreconditionFailed when it is not the version that was read.
    """
    return await ctx.write(_update, ctx.caller.id, ctx.match, request.display_name)


async def list_addresses(ctx: Context, request: messages.ListAddresses) -> AddressPage:
    """Show a page of the caller's own addresses."""
    size = request.page_size
    found = store.addresses(ctx.read, ctx.caller.id, request.page_token or "", size + 1)
    page = found[:size]
    return AddressPage(tuple(page), page[-1].id if len(found) > size else None)


async def add_address(ctx: Context, request: messages.AddAddress) -> AddressView:
    """Add an address of the caller's own.

    Raises: Conflict (`too-many-addresses`).
    """
    return await ctx.conclude(_add_address, ctx.entity_id("adr"), ctx.caller.id, request)


async def remove_address(ctx: Context, request: messages.AddressRef) -> None:
    """Remove one of the caller's own addresses.

    Raises: NotFound, also for somebody else's.
    """
    if not await ctx.write(store.delete_address, request.id, ctx.caller.id):
        raise NotFound(f"no address {request.id}", code="no-such-address")


async def get(ctx: Context, request: messages.GetUser) -> UserView:
    """Show a user to itself or to an admin.

    Raises: NotFound, also for a user that is somebody else.
    """
    model.check_may_see(ctx.caller, request.id)
    return _shown(ctx.read, request.id)


async def list_users(ctx: Context, request: messages.ListUsers) -> UserPage:
    """Show a page of all users, or of those in a status or with a role."""
    size = request.page_size
    found = await ctx.scan(
        model.User,
        store.USERS_AFTER,
        id=request.page_token or "",
        status=request.status,
        role=request.role,
        most=size + 1,
    )
    page = found[:size]
    roles = store.roles_of(ctx.read, [user.id for user in page])
    return UserPage(
        items=tuple(model.view(user, roles.get(user.id, [])) for user in page),
        next_page_token=page[-1].id if len(found) > size else None,
    )


async def logins(ctx: Context, request: messages.ListLogins) -> LoginPage:
    """Show a page of a user's login history, the newest first, to itself or to an admin.

    Raises: NotFound, also for a user that is somebody else.
    """
    size = request.page_size
    _found(ctx, request.id)
    found = store.logins(ctx.read, request.id, request.page_token, size + 1)
    page = tuple(map(model.login_view, found[:size]))
    return LoginPage(page, page[-1].id if len(found) > size else None)


async def orders(ctx: Context, request: messages.ListOrders) -> OrdersPage:
    """Show a page of a user's orders as they were last heard of, to itself or to an admin.

    Raises: NotFound, also for a user that is somebody else.
    """
    size = request.page_size
    _found(ctx, request.id)
    found = store.orders(ctx.read, request.id, request.page_token, size + 1)
    page = tuple(map(model.order_view, found[:size]))
    return OrdersPage(page, page[-1].order_id if len(found) > size else None)


async def explain(ctx: Context, request: messages.GetUser) -> Explanation:
    """Tell how a user stands: status, what is waited for, what is possible, the newest of all.

    Raises: NotFound, also for a user that is somebody else.
    """
    user = _found(ctx, request.id)
    newest = model.EXPLAINED_MAX
    return Explanation(
        id=user.id,
        status=user.status,
        roles=tuple(store.roles(ctx.read, user.id)),
        version=user.version,
        created_at=model.view(user, ()).created_at,
        waits_for=model.waits_for(user),
        possible=model.possible(user),
        logins=tuple(map(model.login_view, store.logins(ctx.read, user.id, None, newest))),
        orders=tuple(map(model.order_view, store.orders(ctx.read, user.id, None, newest))),
    )


async def grant(ctx: Context, request: messages.RoleOf) -> UserView:
    """Give a user a role. With another set of roles one has to log in anew.

    Raises: NotFound, Conflict (`user-pending`).
    Effects: the role, user.roles_changed and the end of the sessions deferred, in one transaction.
    """
    return await ctx.write(_grant, request.id, request.role, ctx.caller.id)


async def revoke(ctx: Context, request: messages.RoleOf) -> UserView:
    """Take a role from a user; one that is not there is gone already.

    Raises: NotFound, Conflict (`user-pending`, `last-admin`).
    Effects: as of `grant`.
    """
    return await ctx.write(_revoke, request.id, request.role)


async def suspend(ctx: Context, request: messages.GetUser) -> UserView:
    """Let a user come in no more, until they are reinstated.

    Raises: NotFound, Conflict (`user-pending`, `last-admin`).
    Effects: the status, user.suspended and the end of the sessions deferred, in one transaction.
    """
    return await ctx.write(_suspend, request.id)


async def reinstate(ctx: Context, request: messages.GetUser) -> UserView:
    """Let a suspended user come in again.

    Raises: NotFound, Conflict (`user-pending`).
    """
    return await ctx.write(_reinstate, request.id)


async def erase(ctx: Context, request: messages.GetUser) -> None:
    """Forget a user: itself, or anybody as an admin. There is no way back.

    Who has been forgotten and asks once more, with the token that has ended by it, is told so.

    Raises: NotFound, also for a user that is somebody else; Conflict (`last-admin`).
    Effects: the id noted for restores; the rows gone, user.erased told and the erasure at auth
        deferred, in one transaction; the bytes gone soon after.
    """
    model.check_may_see(ctx.caller, request.id)
    await ctx.write_aside(_erase, request.id)


def erased(read: Reader, caller: Caller, request: messages.GetUser) -> bool:
    """Whether somebody who asks to be forgotten has been; their session has ended with it."""
    return caller.id == request.id and store.was_erased(read, request.id)


async def end_sessions(ctx: Context, left: messages.EndSessions) -> None:
    """Deferred: have auth end every session of somebody whose rights have changed."""
    await ctx.ask(calls.END_SESSIONS, left)


async def erase_credentials(ctx: Context, left: messages.EraseCredentials) -> None:
    """Deferred: have auth forget somebody."""
    await ctx.ask(calls.ERASE_CREDENTIALS, left)


def plant(tx: Tx, seed: messages.Seed) -> None:
    """The configuration's users, active from the start."""
    for row in seed.users:
        store.insert_pending(tx, row.id, model.normal(row.email), row.display_name)
        entry.activate(tx, row.id, row.display_name, row.roles)
        for address in row.addresses:
            store.put_address(tx, address.id, row.id, address)


def forget(tx: Tx, user_id: str) -> None:
    """Delete all that is known of a user, and say so. Once more does nothing."""
    if store.delete_user(tx, user_id):
        tx.tell(Erased(user_id))
        tx.defer("erase-credentials", messages.EraseCredentials(user_id), key=user_id)


def _found(ctx: Context, user_id: str) -> User:
    """A user that the caller may see. Raises: NotFound."""
    if ctx.caller.kind != "operator":
        model.check_may_see(ctx.caller, user_id)
    return _user(ctx.read, user_id)


def _user(read: Reader | Tx, user_id: str) -> User:
    user = store.user(read, user_id)
    if user is None:
        raise model.not_found(user_id)
    return user


def _shown(read: Reader | Tx, user_id: str) -> UserView:
    return model.view(_user(read, user_id), store.roles(read, user_id))


def _update(tx: Tx, user_id: str, match: frozenset[str], display_name: str) -> UserView:
    user = _user(tx, user_id)
    check_match(match, user.version)
    if user.display_name != display_name:
        store.rename(tx, user_id, display_name)
        store.bump(tx, user_id)
    return _shown(tx, user_id)


def _add_address(
    tx: Tx, address_id: str, user_id: str, request: messages.AddAddress
) -> AddressView:
    """Once for each id, so that a request that is sent again adds nothing."""
    _user(tx, user_id)
    own = store.addresses(tx, user_id, "", model.ADDRESSES_MAX)
    if address_id not in {address.id for address in own}:
        if len(own) >= model.ADDRESSES_MAX:
            raise Conflict(
                f"nobody can have more than {model.ADDRESSES_MAX} addresses",
                code="too-many-addresses",
            )
        more = {"line2": request.line2, "region": request.region}
        store.put_address(tx, address_id, user_id, request, **more)
        own = store.addresses(tx, user_id, "", model.ADDRESSES_MAX)
    return next(address for address in own if address.id == address_id)


def _grant(tx: Tx, user_id: str, role: messages.Role, granted_by: str) -> UserView:
    model.check_not_pending(_user(tx, user_id))
    if role not in store.roles(tx, user_id):
        store.grant(tx, user_id, role, granted_by)
        _roles_changed(tx, user_id)
    return _shown(tx, user_id)


def _revoke(tx: Tx, user_id: str, role: messages.Role) -> UserView:
    user = model.check_not_pending(_user(tx, user_id))
    if role == "admin":
        _check_admin_left(tx, user)
    if store.revoke(tx, user_id, role):
        _roles_changed(tx, user_id)
    return _shown(tx, user_id)


def _roles_changed(tx: Tx, user_id: str) -> None:
    version = store.bump(tx, user_id)
    tx.tell(RolesChanged(user_id, tuple(store.roles(tx, user_id)), version))
    tx.defer("end-sessions", messages.EndSessions(user_id, "roles-changed"), key=user_id)


def _suspend(tx: Tx, user_id: str) -> UserView:
    _check_admin_left(tx, model.check_not_pending(_user(tx, user_id)))
    if store.move(tx, user_id, "active", "suspended"):
        tx.tell(Suspended(user_id, store.bump(tx, user_id)))
        tx.defer("end-sessions", messages.EndSessions(user_id, "suspended"), key=user_id)
    return _shown(tx, user_id)


def _reinstate(tx: Tx, user_id: str) -> UserView:
    model.check_not_pending(_user(tx, user_id))
    if store.move(tx, user_id, "suspended", "active"):
        tx.tell(Reinstated(user_id, store.bump(tx, user_id)))
    return _shown(tx, user_id)


def _erase(tx: Tx, user_id: str) -> None:
    _check_admin_left(tx, _user(tx, user_id))
    tx.erase(user_id)


def _check_admin_left(tx: Tx, user: User) -> None:
    """Of an active admin who is about to be none. Raises: Conflict (`last-admin`)."""
    if user.status == "active" and "admin" in store.roles(tx, user.id):
        model.check_admin_left(store.other_admins(tx, user.id))
