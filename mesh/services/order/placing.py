"""Placing: an order is taken, its stock held; or it waits for stock, or cannot be had."""

from __future__ import annotations

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
from mesh.services.order.steps import place, present, show, step, view

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from mesh.framework import Call, Context, Tx
    from mesh.services.order.messages import OrderView
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
        return await _decide(ctx, order_id, ctx.conclude, wanted if placed else None)
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
    placed: dict[str, int] | None = None,
) -> OrderView:
    """Ask product to hold and apply its answer, unless events have overtaken it meanwhile.

    Args:
        placed: the quantities of an order that was placed just now, so that nothing is read first.
    """
    for _ in range(ASK_AGAIN_MAX):
        wanted, placed = placed, None
        if wanted is None:
            order = store.get(ctx.read, order_id)
            if order is None:
                raise Broken(f"order {order_id} is gone")
            if order.status not in model.UNDECIDED:
                return await write(view, order_id)
            wanted = _quantities(store.lines(ctx.read, order_id))
        verdict = await _ask_to_hold(ctx, order_id, wanted)
        try:
            return await write(_apply, order_id, verdict)
        except _OvertakenError:
            continue
    raise ServiceUnavailable("stock changes faster than it can be asked for")


def _quantities(lines: Sequence[messages.LineView]) -> dict[str, int]:
    return {line.product_id: line.quantity for line in lines}


async def _ask_to_hold(ctx: Context, order_id: str, wanted: dict[str, int]) -> Verdict:
    lines = [messages.HoldLine(product_id, quantity) for product_id, quantity in wanted.items()]
    try:
        return await ask(ctx, messages.HOLD, messages.Hold(order_id, lines))
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


def _apply(tx: Tx, order_id: str, verdict: Verdict) -> OrderView:
    order = present(tx, order_id)
    if isinstance(verdict, messages.Held):
        order = _apply_held(tx, order, verdict)
    elif order.status in model.UNDECIDED:
        if isinstance(verdict, messages.Short):
            order = _apply_short(tx, order, verdict)
        else:
            order = step(tx, order, "refused", verdict.reason, actor="order")
    return show(tx, order)


def _apply_held(tx: Tx, order: OrderRow, held: messages.Held) -> OrderRow:
    """The stock is ours, unless its expiry was heard of before this answer came."""
    if held.version <= replica.lost_version(tx, order.id):
        raise _OvertakenError
    if order.status not in model.UNDECIDED:
        if order.status in model.TERMINAL:
            tx.defer("release", messages.Owed(order.id), key=order.id)
        return order
    lines = store.lines(tx, order.id)
    order, problem = _price(tx, order, lines, held.lines)
    if problem is not None:
        return step(tx, order, "refused", problem, actor="order", lines=lines)
    order = replace(order, hold_version=held.version, held_until_ms=held.expires_at_ms)
    return step(tx, order, "held", "stock held", actor="order", lines=lines)


def _apply_short(tx: Tx, order: OrderRow, short: messages.Short) -> OrderRow:
    """Not enough, unless stock came back, or the product went, while this answer was on its way."""
    lines = store.lines(tx, order.id)
    if model.short_overtaken(short, _quantities(lines), replica.seen(tx, order.id)):
        raise _OvertakenError
    if order.status == "backordered":
        return order
    order, problem = _price(tx, order, lines, short.lines)
    if problem is None and order.on_shortage == "reject":
        problem = "insufficient-stock"
    if problem is not None:
        return step(tx, order, "refused", problem, actor="order", lines=lines)
    return step(tx, order, "short", "insufficient-stock", actor="order", lines=lines)


def _price(
    tx: Tx, order: OrderRow, lines: list[messages.LineView], quoted: list[messages.HeldLine]
) -> tuple[OrderRow, str | None]:
    """The order at its first quotation, and why it cannot be taken at that, or None."""
    if order.subtotal_minor is not None:
        return order, None
    sums = model.sums(_quantities(lines), quoted)
    if sums is None:
        return order, "mixed-currencies"
    store.set_line_prices(tx, order.id, quoted)
    priced = replace(
        order,
        currency=sums.currency,
        subtotal_minor=sums.subtotal_minor,
        shipping_minor=sums.shipping_minor,
        total_minor=sums.total_minor,
    )
    expected = order.expected_total_minor
    if expected is not None and sums.total_minor > expected:
        return priced, "price-changed"
    return priced, None
