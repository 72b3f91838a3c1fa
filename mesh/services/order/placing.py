"""Placing: an order is taken, its stock held; or it waits for stock, or cannot be had."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from mesh.errors import (
    Broken,
    Conflict,
    Forbidden,
    Gone,
    InvalidInput,
    NotFound,
    Refused,
    ServiceUnavailable,
    Unavailable,
)
from mesh.framework import facts, facts_as
from mesh.services.order import messages, model, payments, replica, store
from mesh.services.order.steps import Decided, begin, place, present, show, shown, step, view

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mesh.framework import Call, Context, Tx
    from mesh.services.order.messages import LineView, OrderView
    from mesh.services.order.steps import Placed
    from mesh.services.order.store import OrderRow

In = TypeVar("In")
Out = TypeVar("Out")

ASK_AGAIN_MAX = 5
"""Answers in a row that events may overtake before the order is left to its deferred work."""

SHORT = "insufficient-stock"

_TOO_FAST = "stock changes faster than it can be asked for"


class Refusal(Struct, frozen=True):
    """product will not hold this order's stock, whatever comes."""

    reason: str


Verdict = messages.Held | messages.Short | Refusal


class _OvertakenError(Exception):
    """Events told of something newer than the answer at hand; ask again."""


async def create(ctx: Context, request: messages.PlaceOrder) -> OrderView:
    """Take an order, its stock being held.

    Effects, in order:
        1. product is asked to hold; the hold's key is the order's id
        2. the order is committed as `reserved`, `backordered` or `rejected`, with the answer
    With product away it is committed as `pending` (202) and decided later. A hold whose order was never
    written down, since this process died between the two, is noticed by its event and given back.
    """
    placed = begin(ctx.entity_id("ord"), ctx.caller.id, request, ctx.now_ms)
    try:
        for _ in range(ASK_AGAIN_MAX):
            verdict = await _ask_to_hold(ctx, placed.order.id, placed.lines)
            with contextlib.suppress(_OvertakenError):
                return await ctx.conclude(_place, placed, verdict)
        raise ServiceUnavailable(_TOO_FAST)
    except Unavailable as error:
        ctx.log.info("an order stays pending", extra=facts(order=placed.order.id, why=str(error)))
        ctx.status = 202
        ctx.headers["Location"] = f"/orders/{placed.order.id}"
        return await ctx.conclude(_leave_pending, placed)


def _place(tx: Tx, placed: Placed, verdict: Verdict) -> OrderView:
    """Write down a new order as product has answered."""
    decided = _judged(tx, placed.order, placed.lines, verdict)
    order = place(tx, placed, decided)
    if order is not None:
        return shown(order, decided.lines)
    if _is_there(tx, placed.order):
        return _apply(tx, placed.order.id, verdict)
    raise _OvertakenError


def _leave_pending(tx: Tx, placed: Placed) -> OrderView:
    order = place(tx, placed)
    if order is None and not _is_there(tx, placed.order):
        raise Broken(f"order {placed.order.id} can be neither written nor found")
    return view(tx, placed.order.id) if order is None else shown(order, placed.lines)


def _is_there(tx: Tx, order: OrderRow) -> bool:
    """Whether an earlier try wrote it down. Raises: Forbidden: a token lives on for a moment."""
    there = store.exists(tx, order.id)
    if not there and store.is_erased(tx, order.user_id):
        raise Forbidden("this account was erased", code="user-erased")
    return there


async def decide(ctx: Context, request: messages.Owed) -> None:
    """Deferred: drive on an order that is still pending."""
    await _decide(ctx, request.order_id)


async def wake(ctx: Context, request: messages.Wake) -> None:
    """Deferred: try the backorders of a product, the oldest first; one that does not fit is passed."""
    orders = replica.waiting(ctx.read, request.product_id, request.after)
    for order_id in orders:
        await _decide(ctx, order_id)
    if len(orders) == replica.WAKE_MAX:
        await ctx.write(_wake_rest, messages.Wake(request.product_id, orders[-1]))


def _wake_rest(tx: Tx, rest: messages.Wake) -> None:
    """Under a key of its own: under the product's it could replace a wake from the beginning."""
    tx.defer("wake", rest, key=f"{rest.product_id} {rest.after}")


async def release(ctx: Context, request: messages.Owed) -> None:
    """Deferred: an order is over; what it holds goes back, and what was shipped has returned."""
    await ctx.ask(messages.RELEASE_HOLD, messages.HoldRef(request.order_id))


def lose_hold(tx: Tx, order_id: str, version: int) -> None:
    """An event told that this version of an order's hold has expired: the order is over."""
    replica.lose_hold(tx, order_id, version)
    order = store.get(tx, order_id)
    if order is None or version < order.hold_version:
        return
    if order.status in {"reserved", "paying"}:
        payments.abandon_capture(tx, order_id)
        step(tx, order, "expired", "hold expired", actor="product")


async def disown(ctx: Context, request: messages.Owed) -> None:
    """Deferred: stock is held for an order that was not written down when that was heard."""
    await ctx.write(_disown, request.order_id)


def _disown(tx: Tx, order_id: str) -> None:
    """Give back what is held for nobody. Should somebody still be about to write it down, they ask again."""
    if not store.exists(tx, order_id):
        replica.lose_hold(tx, order_id, replica.EVERY_VERSION)
        tx.defer("release", messages.Owed(order_id), key=order_id)


async def _decide(ctx: Context, order_id: str) -> None:
    """Ask product to hold and apply its answer, unless events have overtaken it meanwhile."""
    for _ in range(ASK_AGAIN_MAX):
        order = present(ctx.read, order_id)
        if order.status not in model.UNDECIDED:
            return
        verdict = await _ask_to_hold(ctx, order_id, store.lines(ctx.read, order_id))
        with contextlib.suppress(_OvertakenError):
            await ctx.write(_apply, order_id, verdict)
            return
    raise ServiceUnavailable(_TOO_FAST)


def _quantities(lines: Sequence[LineView]) -> dict[str, int]:
    return {line.product_id: line.quantity for line in lines}


async def _ask_to_hold(ctx: Context, order_id: str, lines: Sequence[LineView]) -> Verdict:
    wanted = [messages.HoldLine(line.product_id, line.quantity) for line in lines]
    try:
        return await ask(ctx, messages.HOLD, messages.Hold(order_id, wanted))
    except Conflict as error:
        if error.code == SHORT:
            return facts_as(error, messages.Short)
        return Refusal(error.code)
    except (NotFound, Gone, InvalidInput) as error:
        return Refusal(error.code)


async def ask(ctx: Context, call: Call[In, Out], request: In) -> Out:
    """Ask product; a refusal of the service order itself says nothing about the order.

    Raises: Conflict, Gone, InvalidInput, NotFound (`unknown-product`): product's no;
        ServiceUnavailable.
    """
    try:
        return await ctx.ask(call, request)
    except Refused as error:
        about_it = isinstance(error, Conflict | Gone | InvalidInput)
        if about_it or error.code == "unknown-product":
            raise
        raise ServiceUnavailable("product does not take what order asks") from error


def _apply(tx: Tx, order_id: str, verdict: Verdict) -> OrderView:
    """Move an order as product has answered, if it still waits for that; the order as it is then."""
    order = present(tx, order_id)
    if isinstance(verdict, messages.Held) and verdict.version <= replica.lost_version(tx, order_id):
        raise _OvertakenError
    if order.status in model.UNDECIDED:
        lines = store.lines(tx, order_id)
        to = _judged(tx, order, lines, verdict)
        if (order.status, to.cause) != ("backordered", "short"):
            order = step(tx, to.order, to.cause, to.reason, actor="order", lines=lines)
            if to.lines is not lines:
                store.set_line_prices(tx, order_id, to.lines)
    elif isinstance(verdict, messages.Held) and order.status in model.TERMINAL:
        tx.defer("release", messages.Owed(order_id), key=order_id)
    return show(tx, order)


def _judged(tx: Tx, order: OrderRow, lines: list[LineView], verdict: Verdict) -> Decided:
    """The move that product's answer leads to. Raises: _OvertakenError."""
    if isinstance(verdict, Refusal):
        return Decided(order, lines, "refused", verdict.reason)
    if isinstance(verdict, messages.Short):
        wanted = _quantities(lines)
        if model.short_overtaken(verdict, wanted, replica.seen(tx, wanted)):
            raise _OvertakenError
    order, priced, problem = _priced(order, lines, verdict.lines)
    if problem is not None:
        return Decided(order, priced, "refused", problem)
    if isinstance(verdict, messages.Held):
        held = replace(order, hold_version=verdict.version, held_until_ms=verdict.expires_at_ms)
        return Decided(held, priced, "held", "stock held")
    if order.on_shortage == "reject":
        return Decided(order, priced, "refused", SHORT)
    return Decided(order, priced, "short", SHORT)


def _priced(
    order: OrderRow, lines: list[LineView], quoted: list[messages.HeldLine]
) -> tuple[OrderRow, list[LineView], str | None]:
    """The order at its first quotation, and why it cannot be taken at that, or None."""
    if order.subtotal_minor is not None:
        return order, lines, None
    sums = model.sums(_quantities(lines), quoted)
    if sums is None:
        return order, lines, "mixed-currencies"
    expected = order.expected_total_minor
    dearer = expected is not None and sums.total_minor > expected
    order = replace(
        order,
        currency=sums.currency,
        subtotal_minor=sums.subtotal_minor,
        shipping_minor=sums.shipping_minor,
        total_minor=sums.total_minor,
    )
    return order, model.quoted(lines, quoted), "price-changed" if dearer else None
