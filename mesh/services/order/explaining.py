"""Explaining: one order's journey across services, what it waits for and what can be done with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from mesh.errors import NotFound, Unavailable
from mesh.framework import iso
from mesh.services.order import messages, model, payments, replica, steps, store

if TYPE_CHECKING:
    from mesh.framework import Context
    from mesh.services.order.store import OrderRow


class HoldNow(Struct, frozen=True):
    """What product holds for an order right now: `none`, `unknown`, or the hold's own state."""

    state: str
    version: int | None = None
    expires_at: str | None = None
    why: str | None = None


class LineSeen(Struct, frozen=True):
    """A line, and what was heard of its product since: the price of today changes no order."""

    product_id: str
    sku: str | None
    quantity: int
    unit_price_minor: int | None
    heard_price_minor: int | None
    heard_available: int | None
    discontinued: bool


class Possible(Struct, frozen=True):
    """A move out of the present status, and who may bring it about."""

    move: str
    to: str
    by: list[str]


class OwedView(Struct, frozen=True):
    """Work that is left to do, not before `due`; `error` is why the last try failed."""

    action: str
    due: str
    tries: int
    error: str | None


class PaymentView(Struct, frozen=True):
    """A payment or refund."""

    id: str
    kind: str
    state: str
    amount_minor: int
    at: str


class Explanation(Struct, frozen=True):
    """An order's journey, what it waits for and what is possible."""

    id: str
    status: messages.Status
    reason: str
    waits_for: str | None
    user_id: str
    total_minor: int | None
    currency: str | None
    hold: HoldNow
    lines: list[LineSeen]
    possible: list[Possible]
    owed: list[OwedView]
    payments: list[PaymentView]
    history: list[messages.Step]


WAITS_FOR = {
    "pending": "product, to say whether its stock can be held",
    "paying": "product, to commit the hold, and the payment gateway",
    "paid": "staff, to ship it",
    "shipped": "staff, to note that it was delivered",
}


async def explain(ctx: Context, request: messages.OrderRef) -> Explanation:
    """Tell an order's journey, its hold as product sees it right now, and what is still to come."""
    order = steps.visible(ctx, request.id)
    hold = await _hold(ctx, order.id)
    lines = _lines(ctx, order.id)
    return Explanation(
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
            Possible(row.cause, row.target, list(row.by) or ["itself"])
            for row in model.MOVES.out_of(order.status)
        ],
        owed=[
            OwedView(row.action, iso(row.due_ms), row.attempts, row.error)
            for row in store.owed(ctx.read, order.id)
        ],
        payments=[
            PaymentView(row.id, row.kind, row.state, row.amount_minor, iso(row.at_ms))
            for row in payments.money(ctx.read, order.id)
        ],
        history=[
            messages.Step(
                row.version, row.old, row.new, row.reason, row.actor, row.cause, iso(row.at_ms)
            )
            for row in store.history(ctx.read, order.id)
        ],
    )


async def _hold(ctx: Context, order_id: str) -> HoldNow:
    try:
        found = await ctx.ask(messages.GET_HOLD, messages.HoldRef(order_id))
    except NotFound:
        return HoldNow("none")
    except Unavailable as error:
        return HoldNow("unknown", why=f"product does not say: {error}")
    expires_at = iso(found.expires_at_ms) if found.state == "held" else None
    return HoldNow(found.state, found.version, expires_at)


def _lines(ctx: Context, order_id: str) -> list[LineSeen]:
    lines = store.lines(ctx.read, order_id)
    seen = replica.seen(ctx.read, [line.product_id for line in lines])
    return [
        LineSeen(
            line.product_id,
            line.sku,
            line.quantity,
            line.unit_price_minor,
            row.price_minor if row else None,
            row.available if row else None,
            discontinued=row.discontinued if row else False,
        )
        for line in lines
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
