"""Explaining: one order's journey across services, what it waits for and what can be done with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh.errors import NotFound, Unavailable
from mesh.framework import iso
from mesh.services.order import messages, model, payments, replica, steps, store

if TYPE_CHECKING:
    from mesh.framework import Context
    from mesh.services.order.messages import LineSeen
    from mesh.services.order.store import OrderRow

WAITS_FOR = {
    "pending": "product, to say whether its stock can be held",
    "paying": "product, to commit the hold, and the payment gateway",
    "paid": "staff, to ship it",
    "shipped": "staff, to note that it was delivered",
}


async def explain(ctx: Context, request: messages.OrderRef) -> messages.Explanation:
    """Tell an order's journey, its hold as product sees it right now, and what is still to come."""
    order = steps.visible(ctx, request.id)
    hold = await _hold(ctx, order.id)
    lines = _lines(ctx, order.id)
    return messages.Explanation(
        id=order.id,
        status=order.status,
        reason=order.reason,
        waits_for=_waits_for(order, lines),
        user_id=order.user_id,
        total_minor=order.total_minor,
        currency=order.currency,
        hold=hold,
        lines=lines,
        possible=[
            messages.Possible(row.cause, row.target, list(row.by) or ["itself"])
            for row in model.MOVES.out_of(order.status)
        ],
        owed=[
            messages.OwedView(row.action, iso(row.due_ms), row.attempts, row.error)
            for row in store.owed(ctx.read, order.id)
        ],
        payments=[
            messages.PaymentView(row.id, row.kind, row.state, row.amount_minor, iso(row.at_ms))
            for row in payments.money(ctx.read, order.id)
        ],
        history=[
            messages.Step(
                row.version, row.old, row.new, row.reason, row.actor, row.cause, iso(row.at_ms)
            )
            for row in store.history(ctx.read, order.id)
        ],
    )


async def _hold(ctx: Context, order_id: str) -> messages.HoldNow:
    try:
        found = await ctx.ask(messages.GET_HOLD, messages.HoldRef(order_id))
    except NotFound:
        return messages.HoldNow("none")
    except Unavailable as error:
        return messages.HoldNow("unknown", why=f"product does not say: {error}")
    expires_at = iso(found.expires_at_ms) if found.state == "held" else None
    return messages.HoldNow(found.state, found.version, expires_at)


def _lines(ctx: Context, order_id: str) -> list[LineSeen]:
    seen = replica.seen(ctx.read, order_id)
    return [
        messages.LineSeen(
            line.product_id,
            line.sku,
            line.quantity,
            line.unit_price_minor,
            row.price_minor if row else None,
            row.available if row else None,
            discontinued=row.discontinued if row else False,
        )
        for line in store.lines(ctx.read, order_id)
        for row in [seen.get(line.product_id)]
    ]


def _waits_for(order: OrderRow, lines: list[LineSeen]) -> str | None:
    if order.status == "backordered":
        short = [
            f"{line.quantity} of {line.sku or line.product_id} ({line.heard_available} heard of)"
            for line in lines
            if (line.heard_available or 0) < line.quantity
        ]
        return f"stock: {', '.join(short) or 'enough is heard of, it is being asked for'}"
    if order.status == "reserved":
        return f"its owner, to pay until {iso(order.held_until_ms or 0)}"
    return WAITS_FOR.get(order.status)
