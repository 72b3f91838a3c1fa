"""Whether a password that was shown is right, at the pace that earlier failures allow."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias, TypeVar

from mesh.errors import Overloaded
from mesh.services.auth import model, store

if TYPE_CHECKING:
    from collections.abc import Callable

    from mesh.framework import Context, Reader, Tx
    from mesh.services.auth.messages import SetCredentials, SignIn, VerifyCredentials
    from mesh.services.auth.model import Credentials, Tries

    Shown: TypeAlias = SetCredentials | VerifyCredentials | SignIn

T = TypeVar("T")


async def guess(
    ctx: Context,
    known: Credentials | None,
    shown: Shown,
    then: Callable[[Tx, Credentials], T],
) -> tuple[T] | None:
    """What `then` makes of it in the same commit if the password is right; None when it is wrong.

    The guess is noted before it is hashed, so that those that come at the same time see one another.

    Raises: Throttled, before any hashing; Overloaded.
    """
    _check_pace(ctx.read, shown, ctx.now_ms)  # the writer is not to be guessed busy
    guess_id = ctx.new_id("gss")
    counted = await ctx.write(_begin_guess, guess_id, shown)
    phc = model.hash_of_nobody() if known is None else known.hash
    try:
        right = await ctx.compute(model.matches, phc, shown.password)
    except Overloaded:
        await ctx.write(store.drop_guess, guess_id)
        raise
    if known is None or not right:
        await ctx.write(_fail_guess, guess_id, shown, counted=counted)
        return None
    return (await ctx.write(_end_guess, guess_id, shown, known, then),)


def _check_pace(read: Reader | Tx, shown: Shown, now_ms: int) -> Tries | None:
    """The tries with this one counted in advance; None when it is free. Raises: Throttled."""
    tries = store.tries(read, shown.login, shown.source)
    model.check_pace(tries, store.pace(read, shown.login, shown.source, now_ms), now_ms)
    return model.next_turn(tries, now_ms)


def _begin_guess(tx: Tx, guess_id: str, shown: Shown) -> bool:
    counted = _check_pace(tx, shown, tx.now_ms)
    store.put_guess(tx, guess_id, shown.login, shown.source)
    if counted is not None:
        store.put_tries(tx, shown.login, shown.source, counted)
    return counted is not None


def _end_guess(
    tx: Tx,
    guess_id: str,
    shown: Shown,
    known: Credentials,
    then: Callable[[Tx, Credentials], T],
) -> T:
    done = then(tx, known)
    store.drop_guess(tx, guess_id)
    store.clear_tries(tx, shown.login, shown.source)
    return done


def _fail_guess(tx: Tx, guess_id: str, shown: Shown, *, counted: bool) -> None:
    store.fail_guess(tx, guess_id)
    store.sweep_tries(tx, tx.now_ms - model.FORGET_MS)
    if not counted:
        tries = store.tries(tx, shown.login, shown.source)
        store.put_tries(tx, shown.login, shown.source, model.after_failure(tries, tx.now_ms))
