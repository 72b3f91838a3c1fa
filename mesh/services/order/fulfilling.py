"""Fulfilling: what is paid for is shipped and delivered, or returns; until then it can be cancelled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh.errors import Conflict, Gone
from mesh.framework import facts
from mesh.services.order import messages, model, store
from mesh.services.order.placing import ask
from mesh.services.order.steps import present, step, view, visible

if TYPE_CHECKING:
    from mesh.framework import Context, Tx
    from mesh.services.order.messages import OrderView


async def cancel(ctx: Context, request: messages.Cancel) -> OrderView:
    """Cancel an order that has not been shipped; what was held and paid goes back.

    Raises: NotFound; Conflict (`illegal-transition`).
    """
    order = visible(ctx, request.id)
    whose = "its owner" if order.user_id == ctx.caller.id else "staff"
    told = f"cancelled by {whose}"
    return await ctx.conclude(_move, request.id, "cancel", request.reason, told, ctx.caller.subject)


async def ship(ctx: Context, request: messages.Ship) -> OrderView:
    """Send a paid order on its way; its stock leaves the shelf right after.

    Raises: NotFound; Conflict (`illegal-transition`; `address-forgotten`).
    """
    return await ctx.conclude(_ship, request, ctx.caller.subject)


def _ship(tx: Tx, request: messages.Ship, actor: str) -> OrderView:
    order = present(tx, request.id)
    if order.forgotten:
        raise Conflict("its owner was erased: cancel it", code="address-forgotten")
    model.require(order.status, "ship")
    store.set_parcel(tx, request.id, request.carrier, request.tracking)
    return _move(tx, request.id, "ship", None, "shipped", actor)


async def deliver(ctx: Context, request: messages.OrderRef) -> OrderView:
    """Note that a shipped order has arrived.

    Raises: NotFound; Conflict (`illegal-transition`).
    """
    return await ctx.conclude(_move, request.id, "deliver", None, "delivered", ctx.caller.subject)


async def take_back(ctx: Context, request: messages.Return) -> OrderView:
    """Take back what was shipped; its stock returns to the shelf and the money to its owner.

    Raises: NotFound; Conflict (`illegal-transition`).
    """
    return await ctx.conclude(
        _move, request.id, "return", request.reason, "returned", ctx.caller.subject
    )


def _move(
    tx: Tx, order_id: str, cause: str, reason: str | None, told: str, actor: str
) -> OrderView:
    order = present(tx, order_id)
    model.require(order.status, cause)
    step(tx, order, cause, reason or told, actor=actor, told=told)
    return view(tx, order_id)


async def ship_hold(ctx: Context, request: messages.Owed) -> None:
    """Deferred: what was shipped leaves product's shelf, unless it has returned meanwhile."""
    try:
        await ask(ctx, messages.SHIP_HOLD, messages.HoldRef(request.order_id))
    except Gone:
        ctx.log.info("nothing is left to ship", extra=facts(order=request.order_id))
