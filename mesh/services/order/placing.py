"""Placing: an order is taken, its stock held; or it waits for stock, or cannot be had."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from mesh.errors import (
    Broken,
    Conflict,
    Gone,
    InvalidInput,
    NotFound,
    Refused,
    ServiceUnavailable,
    Unavailable,
)
from mesh.framework import facts, facts_as
from mesh.services.order import messages, model, payments, replica, store
from mesh.services.order.steps import StaleError, place, present, show, shown, step, view

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from mesh.framework import Call, Context, Tx
    from mesh.services.order.messages import LineView, OrderView
    from mesh.services.order.steps import Placed
    from mesh.services.order.store import OrderRow

In = TypeVar("In")
Out = TypeVar("Out")

ASK_AGAIN_MAX = 5
"""Answers in a row that events may overtake before the order is left to its deferred work."""


class Refusal(Struct, frozen=True):
    """product will not hold this order's stock, whatever comes."""

    reason: str


Verdict = messages.Held | messages.Short | Refusal


class _OvertakenError(Exception):
    """Events told of something newer than the answer at hand; ask again."""


async def create(ctx: Context, request: messages.PlaceOrder) -> OrderView:
    """Take an order and hold its stock.

    Effects, in order:
        1. the order and its first `order.status_changed` are committed as `pending`
        2. product is asked to hold; the hold's key is the order's id
        3. the order is committed as `reserved`, `backordered` or `rejected`, with the answer
    With product away it stays `pending` (202) and is decided later.
    """
    wanted = model.merged(request.lines)
    order_id = ctx.entity_id("ord")
    placed = await ctx.write(place, order_id, ctx.caller.id, request, wanted)
    try:
        return await _decide(ctx, order_id, ctx.conclude, placed)
    except Unavailable as error:
        ctx.log.info("an order stays pending", extra=facts(order=order_id, why=str(error)))
        ctx.status = 202
        ctx.headers["Location"] = f"/orders/{order_id}"
        return await ctx.conclude(view, order_id)


async def decide(ctx: Context, request: messages.Owed) -> None:
    """Deferred: drive on an order that is still pending."""
    await _decide(ctx, request.order_id, ctx.write)


async def wake(ctx: Context, request: messages.Wake) -> None:
    """Deferred: try the backorders of a product, the oldest first; one that does not fit is passed."""
    orders = replica.waiting(ctx.read, request.product_id, request.after)
    for order_id in orders:
        await _decide(ctx, order_id, ctx.write)
    if len(orders) == replica.WAKE_MAX:
        await ctx.write(_wake_rest, messages.Wake(request.product_id, orders[-1]))


def _wake_rest(tx: Tx, rest: messages.Wake) -> None:
    """Under a key of its own: under the product's it could replace a wake from the beginning."""
    tx.defer("wake", rest, key=f"{rest.product_id} {rest.after}")


async def release(ctx: Context, request: messages.Owed) -> None:
    """Deferred: an order is over; what it holds goes back, and what was shipped has returned."""
    await ctx.ask(messages.RELEASE_HOLD, messages.HoldRef(request.order_id))


async def expire(ctx: Context, request: messages.Owed) -> None:
    """Deferred: the time to pay is over."""
    await ctx.write(_expire, request.order_id)


def _expire(tx: Tx, order_id: str) -> None:
    order = present(tx, order_id)
    if order.status == "reserved" and (order.held_until_ms or 0) <= tx.now_ms:
        step(tx, order, "expired", "not paid in time", actor="order")


def lose_hold(tx: Tx, order_id: str, version: int) -> None:
    """An event told that this version of an order's hold has expired: the order is over."""
    replica.lose_hold(tx, order_id, version)
    order = store.get(tx, order_id)
    if order is None or version < order.hold_version:
        return
    if order.status in {"reserved", "paying"}:
        payments.abandon_capture(tx, order_id)
        step(tx, order, "expired", "hold expired", actor="product")


async def _decide(
    ctx: Context,
    order_id: str,
    write: Callable[..., Awaitable[OrderView]],
    placed: Placed | None = None,
) -> OrderView:
    """Ask product to hold and apply its answer, unless events have overtaken it meanwhile.

    Args:
        placed: an order that was placed just now, so that nothing is read of it.
    """
    for _ in range(ASK_AGAIN_MAX):
        hand, placed = placed, None
        if hand is not None:
            lines = hand.lines
        else:
            order = store.get(ctx.read, order_id)
            if order is None:
                raise Broken(f"order {order_id} is gone")
            if order.status not in model.UNDECIDED:
                return await write(view, order_id)
            lines = store.lines(ctx.read, order_id)
        verdict = await _ask_to_hold(ctx, order_id, lines)
        try:
            return await write(_apply, order_id, verdict, hand)
        except _OvertakenError:
            continue
    raise ServiceUnavailable("stock changes faster than it can be asked for")


def _quantities(lines: Sequence[LineView]) -> dict[str, int]:
    return {line.product_id: line.quantity for line in lines}


async def _ask_to_hold(ctx: Context, order_id: str, lines: Sequence[LineView]) -> Verdict:
    wanted = [messages.HoldLine(line.product_id, line.quantity) for line in lines]
    try:
        return await ask(ctx, messages.HOLD, messages.Hold(order_id, wanted))
    except Conflict as error:
        if error.code == "insufficient-stock":
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


def _apply(tx: Tx, order_id: str, verdict: Verdict, hand: Placed | None = None) -> OrderView:
    """What is at hand of the order, if it still is so; else the order as it has become."""
    if hand is not None:
        with contextlib.suppress(StaleError):
            return shown(*_decided(tx, hand.order, hand.lines, verdict, as_placed=True))
    order = present(tx, order_id)
    if isinstance(verdict, messages.Held) and verdict.version <= replica.lost_version(tx, order_id):
        raise _OvertakenError
    if order.status in model.UNDECIDED:
        order, _ = _decided(tx, order, store.lines(tx, order_id), verdict)
    elif isinstance(verdict, messages.Held) and order.status in model.TERMINAL:
        tx.defer("release", messages.Owed(order_id), key=order_id)
    return show(tx, order)


def _decided(
    tx: Tx, order: OrderRow, lines: list[LineView], verdict: Verdict, *, as_placed: bool = False
) -> tuple[OrderRow, list[LineView]]:
    """The order and its lines, moved as product has answered.

    Raises: StaleError, nothing being done; _OvertakenError.
    """
    if isinstance(verdict, Refusal):
        reason = verdict.reason
        order = step(tx, order, "refused", reason, actor="order", lines=lines, as_placed=as_placed)
        return order, lines
    if isinstance(verdict, messages.Short):
        if model.short_overtaken(verdict, _quantities(lines), replica.seen(tx, order.id)):
            raise _OvertakenError
        if order.status == "backordered":
            return order, lines
    order, priced, problem = _priced(order, lines, verdict.lines)
    if isinstance(verdict, messages.Held):
        cause, reason = "held", "stock held"
        if problem is None:
            order = replace(
                order, hold_version=verdict.version, held_until_ms=verdict.expires_at_ms
            )
    else:
        cause, reason = "short", "insufficient-stock"
        if problem is None and order.on_shortage == "reject":
            problem = reason
    if problem is not None:
        cause, reason = "refused", problem
    order = step(tx, order, cause, reason, actor="order", lines=priced, as_placed=as_placed)
    if priced is not lines:
        store.set_line_prices(tx, order.id, verdict.lines)
    return order, priced


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
