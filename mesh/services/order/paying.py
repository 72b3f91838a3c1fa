"""Paying: the hold is committed first and the money taken then; what was taken can be given back once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh.errors import Gone, Unavailable
from mesh.framework import facts
from mesh.services.order import messages, model, payments
from mesh.services.order.placing import ask
from mesh.services.order.steps import own, present, step, view

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mesh.framework import Context, Tx
    from mesh.services.order.messages import OrderView
    from mesh.services.order.store import OrderRow


async def pay(ctx: Context, request: messages.Pay) -> OrderView:
    """Pay a reserved order.

    The hold is committed first and the money taken then, so nobody pays for what is not there.

    Raises: NotFound; Conflict (`illegal-transition`).
    """
    own(ctx, request.id)
    if not ctx.resumed:  # else it was started under this key, and may have ended meanwhile
        await ctx.write(_start, request.id, request.payment_token, ctx.caller.subject)
    try:
        return await _capture(ctx, request.id, ctx.conclude)
    except Unavailable as error:
        ctx.log.info("a payment goes on later", extra=facts(order=request.id, why=str(error)))
        ctx.status = 202
        return await ctx.conclude(view, request.id)


def _start(tx: Tx, order_id: str, token: str, actor: str) -> None:
    order = present(tx, order_id)
    if order.status == "paying":
        return
    model.require(order.status, "pay")
    attempt = f"{order_id}/{payments.captures(tx, order_id) + 1}"
    payments.start_capture(tx, tx.new_id("pay"), order, attempt, token)
    step(tx, order, "pay", "payment started", actor=actor)


async def capture(ctx: Context, request: messages.Owed) -> None:
    """Deferred: drive on a payment that was begun."""
    await _capture(ctx, request.order_id, ctx.write)


async def refund(ctx: Context, request: messages.Owed) -> None:
    """Deferred: give the money back, once."""
    await ctx.write(payments.refund, request.order_id)


async def _capture(
    ctx: Context, order_id: str, write: Callable[..., Awaitable[OrderView]]
) -> OrderView:
    """Commit the hold, then charge; each may be done again after a crash."""
    payment = payments.open_capture(ctx.read, order_id)
    if payment is None or payment.token is None:
        return await write(view, order_id)
    try:
        await ask(ctx, messages.COMMIT_HOLD, messages.HoldRef(order_id))
    except Gone:
        return await write(_hold_gone, order_id, payment.id)
    await ctx.sleep(model.gateway_wait_s(payment.token))
    return await write(_charged, order_id, payment.id, model.charge(payment.token))


def _charged(tx: Tx, order_id: str, payment_id: str, charge: model.Charge) -> OrderView:
    order = present(tx, order_id)
    if not _is_open(tx, order, payment_id):
        return view(tx, order_id)
    payments.end_capture(tx, payment_id, "succeeded" if charge.captured else "declined", charge)
    if charge.captured:
        step(tx, order, "captured", "payment captured", actor="order")
    elif payments.captures(tx, order_id) < model.ATTEMPTS_MAX:
        step(tx, order, "declined", "payment-declined", actor="order")
    else:
        step(tx, order, "declined for good", "payment-declined", actor="order")
    return view(tx, order_id)


def _hold_gone(tx: Tx, order_id: str, payment_id: str) -> OrderView:
    order = present(tx, order_id)
    if _is_open(tx, order, payment_id):
        payments.abandon_capture(tx, order_id)
        step(tx, order, "expired", "hold-gone", actor="order")
    return view(tx, order_id)


def _is_open(tx: Tx, order: OrderRow, payment_id: str) -> bool:
    """Whether an answer about this payment still matters: it may come twice, or during the next."""
    payment = payments.open_capture(tx, order.id)
    return order.status == "paying" and payment is not None and payment.id == payment_id
