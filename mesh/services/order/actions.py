"""What order is asked, and the work it leaves for itself: one function each."""

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
from mesh.framework import facts, facts_as, iso
from mesh.services.order import messages, model, store

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mesh.framework import Call, Context, Reader, Tx
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


# --- asked -----------------------------------------------------------------------------------


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
    await ctx.write(_place, order_id, ctx.caller.id, request, wanted)
    try:
        return await _decide(ctx, order_id, ctx.conclude)
    except Unavailable as error:
        ctx.log.info("an order stays pending", extra=facts(order=order_id, why=str(error)))
        ctx.status = 202
        ctx.headers["Location"] = f"/orders/{order_id}"
        return await ctx.conclude(_view, order_id)


def _place(
    tx: Tx, order_id: str, user_id: str, request: messages.PlaceOrder, wanted: dict[str, int]
) -> None:
    order = store.OrderRow(
        id=order_id,
        user_id=user_id,
        status=model.after("", "create"),
        reason="placed",
        on_shortage=request.on_shortage,
        expected_total_minor=request.expected_total_minor,
        created_ms=tx.now_ms,
        version=1,
    )
    if not store.insert(tx, order, wanted, request.ship_to):
        return
    lines = [messages.ToldLine(product, quantity) for product, quantity in wanted.items()]
    _note(tx, order, "", f"user:{user_id}", lines)
    tx.defer("decide", messages.Decide(order_id), key=order_id, after_s=model.DRIVE_AFTER_S)


async def get(ctx: Context, request: messages.OrderRef) -> OrderView:
    """Show an order to its owner or to staff."""
    _visible(ctx, request.id)
    return _view(ctx.read, request.id)


async def list_orders(ctx: Context, request: messages.ListOrders) -> messages.OrderPage:
    """Show a page of one's own orders; staff see everybody's."""
    whose = None if ctx.caller.has("staff") else ctx.caller.id
    sql, params = store.page(whose, request)
    if request.status is None:
        rows = ctx.read.all(store.OrderRow, sql, **params)
    else:  # few may match, or none
        rows = await ctx.scan(store.OrderRow, sql, **params)
    items = [_show(ctx.read, row) for row in rows[: request.page_size]]
    more = len(rows) > len(items)
    return messages.OrderPage(items, items[-1].id if more else None)


async def history(ctx: Context, request: messages.OrderRef) -> messages.History:
    """Show how an order came to be where it is."""
    _visible(ctx, request.id)
    return messages.History(
        [
            messages.Step(
                row.version, row.old, row.new, row.reason, row.actor, row.cause, iso(row.at_ms)
            )
            for row in store.history(ctx.read, request.id)
        ]
    )


async def pay(ctx: Context, request: messages.Pay) -> OrderView:
    """Pay a reserved order.

    The hold is committed first and the money taken then, so nobody pays for what is not there.

    Raises: NotFound; Conflict (`illegal-transition`).
    """
    _own(ctx, request.id)
    if not ctx.resumed:  # else it was started under this key, and may have ended meanwhile
        await ctx.write(_start_paying, request.id, request.payment_token, ctx.caller.subject)
    try:
        return await _capture(ctx, request.id, ctx.conclude)
    except Unavailable as error:
        ctx.log.info("a payment goes on later", extra=facts(order=request.id, why=str(error)))
        ctx.status = 202
        return await ctx.conclude(_view, request.id)


def _start_paying(tx: Tx, order_id: str, token: str, actor: str) -> None:
    order = _present(tx, order_id)
    if order.status == "paying":
        return
    model.require(order.status, "pay")
    attempt = f"{order_id}/{store.captures(tx, order_id) + 1}"
    store.start_capture(tx, tx.new_id("pay"), order, attempt, token)
    _step(tx, order, "paying", "payment started", actor=actor)
    tx.defer("capture", messages.Capture(order_id), key=order_id, after_s=model.DRIVE_AFTER_S)


async def cancel(ctx: Context, request: messages.Cancel) -> OrderView:
    """Cancel an order that is not under way; what was held and paid goes back.

    Raises: NotFound; Conflict (`illegal-transition`).
    """
    _visible(ctx, request.id)
    reason = request.reason or "cancelled by its owner"
    return await ctx.conclude(_cancel, request.id, reason, ctx.caller.subject)


def _cancel(tx: Tx, order_id: str, reason: str, actor: str) -> OrderView:
    order = _present(tx, order_id)
    model.require(order.status, "cancel")
    _end(tx, order, model.after(order.status, "cancel"), reason, actor)
    return _view(tx, order_id)


# --- left for later --------------------------------------------------------------------------


async def decide(ctx: Context, request: messages.Decide) -> None:
    """Deferred: drive on an order that is still pending."""
    await _decide(ctx, request.order_id, ctx.write)


async def wake(ctx: Context, request: messages.Wake) -> None:
    """Deferred: try the backorders of a product, the oldest first; one that does not fit is passed."""
    orders = store.waiting(ctx.read, request.product_id, request.after)
    for order_id in orders:
        await _decide(ctx, order_id, ctx.write)
    if len(orders) == store.WAKE_MAX:
        await ctx.write(_wake_rest, messages.Wake(request.product_id, orders[-1]))


def _wake_rest(tx: Tx, rest: messages.Wake) -> None:
    """Under a key of its own: under the product's it could replace a wake from the beginning."""
    tx.defer("wake", rest, key=f"{rest.product_id} {rest.after}")


async def release(ctx: Context, request: messages.Release) -> None:
    """Deferred: give back what an order that is over still holds."""
    await ctx.ask(messages.RELEASE_HOLD, messages.HoldRef(request.order_id))


async def capture(ctx: Context, request: messages.Capture) -> None:
    """Deferred: drive on a payment that was begun."""
    await _capture(ctx, request.order_id, ctx.write)


async def refund(ctx: Context, request: messages.Refund) -> None:
    """Deferred: give the money back, once."""
    await ctx.write(store.refund, request.order_id)


async def expire(ctx: Context, request: messages.Expire) -> None:
    """Deferred: the time to pay is over."""
    await ctx.write(_expire, request.order_id)


def _expire(tx: Tx, order_id: str) -> None:
    order = _present(tx, order_id)
    if order.status == "reserved" and (order.held_until_ms or 0) <= tx.now_ms:
        _end(tx, order, "expired", "not paid in time", "order")


# --- deciding --------------------------------------------------------------------------------


async def _decide(
    ctx: Context, order_id: str, write: Callable[..., Awaitable[OrderView]]
) -> OrderView:
    """Ask product to hold and apply its answer, unless events have overtaken it meanwhile."""
    for _ in range(ASK_AGAIN_MAX):
        order = store.get(ctx.read, order_id)
        if order is None:
            raise Broken(f"order {order_id} is gone")
        if order.status not in model.UNDECIDED:
            return await write(_view, order_id)
        verdict = await _ask_to_hold(ctx, order_id)
        try:
            return await write(_apply, order_id, verdict)
        except _OvertakenError:
            continue
    raise ServiceUnavailable("stock changes faster than it can be asked for")


async def _ask_to_hold(ctx: Context, order_id: str) -> Verdict:
    lines = [
        messages.HoldLine(line.product_id, line.quantity)
        for line in store.lines(ctx.read, order_id)
    ]
    try:
        return await _ask(ctx, messages.HOLD, messages.Hold(order_id, lines))
    except Conflict as error:
        if error.code == "insufficient-stock":
            return facts_as(error, messages.Short)
        return Refusal(error.code)
    except (NotFound, Gone, InvalidInput) as error:
        return Refusal(error.code)


async def _ask(ctx: Context, call: Call[In, Out], request: In) -> Out:
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
    order = _present(tx, order_id)
    if isinstance(verdict, messages.Held):
        _apply_held(tx, order, verdict)
    elif order.status in model.UNDECIDED:
        if isinstance(verdict, messages.Short):
            _apply_short(tx, order, verdict)
        else:
            status = model.after(order.status, "refused")
            _end(tx, order, status, verdict.reason, "order")
    tx.undefer("decide", key=order_id)
    return _view(tx, order_id)


def _apply_held(tx: Tx, order: OrderRow, held: messages.Held) -> None:
    """The stock is ours, unless its expiry was heard of before this answer came."""
    if held.version <= store.lost_version(tx, order.id):
        raise _OvertakenError
    if order.status not in model.UNDECIDED:
        if order.status in model.TERMINAL:
            tx.defer("release", messages.Release(order.id), key=order.id)
        return
    order, problem = _price(tx, order, held.lines)
    if problem is not None:
        _end(tx, order, model.after(order.status, "refused"), problem, "order")
        return
    order = replace(order, hold_version=held.version, held_until_ms=held.expires_at_ms)
    _step(tx, order, model.after(order.status, "held"), "stock held", actor="order")
    tx.defer("expire", messages.Expire(order.id), key=order.id, on_ms=held.expires_at_ms)


def _apply_short(tx: Tx, order: OrderRow, short: messages.Short) -> None:
    """Not enough, unless stock came back while this answer was on its way."""
    wanted = {line.product_id: line.quantity for line in store.lines(tx, order.id)}
    if model.short_overtaken(short, wanted, store.seen(tx, order.id)):
        raise _OvertakenError
    if order.status == "backordered":
        return
    order, problem = _price(tx, order, short.lines)
    if problem is None and order.on_shortage == "reject":
        problem = "insufficient-stock"
    if problem is not None:
        _end(tx, order, model.after(order.status, "refused"), problem, "order")
    else:
        _step(tx, order, model.after(order.status, "short"), "insufficient-stock", actor="order")


def _price(tx: Tx, order: OrderRow, quoted: list[messages.HeldLine]) -> tuple[OrderRow, str | None]:
    """The order at its first quotation, and why it cannot be taken at that, or None."""
    if order.subtotal_minor is not None:
        return order, None
    wanted = {line.product_id: line.quantity for line in store.lines(tx, order.id)}
    sums = model.sums(wanted, quoted)
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


# --- paying ----------------------------------------------------------------------------------


async def _capture(
    ctx: Context, order_id: str, write: Callable[..., Awaitable[OrderView]]
) -> OrderView:
    """Commit the hold, then charge; each may be done again after a crash."""
    payment = store.open_capture(ctx.read, order_id)
    if payment is None or payment.token is None:
        return await write(_view, order_id)
    try:
        await _ask(ctx, messages.COMMIT_HOLD, messages.HoldRef(order_id))
    except Gone:
        return await write(_hold_gone, order_id, payment.id)
    await ctx.sleep(model.gateway_wait_s(payment.token))
    return await write(_charged, order_id, payment.id, model.charge(payment.token))


def _charged(tx: Tx, order_id: str, payment_id: str, charge: model.Charge) -> OrderView:
    order = _present(tx, order_id)
    if not _is_open(tx, order, payment_id):
        return _view(tx, order_id)
    tx.undefer("capture", key=order_id)
    store.end_capture(tx, payment_id, "succeeded" if charge.captured else "declined", charge)
    if charge.captured:
        _step(tx, order, model.after("paying", "captured"), "payment captured", actor="order")
        tx.undefer("expire", key=order_id)
    elif store.captures(tx, order_id) < model.ATTEMPTS_MAX:
        _step(tx, order, model.after("paying", "declined"), "payment-declined", actor="order")
        # Its date may have come, and found it paying.
        tx.defer("expire", messages.Expire(order_id), key=order_id, on_ms=order.held_until_ms)
    else:
        _end(tx, order, model.after("paying", "declined for good"), "payment-declined", "order")
    return _view(tx, order_id)


def _hold_gone(tx: Tx, order_id: str, payment_id: str) -> OrderView:
    order = _present(tx, order_id)
    if _is_open(tx, order, payment_id):
        store.end_capture(tx, payment_id, "abandoned", None)
        _end(tx, order, model.after("paying", "expired"), "hold-gone", "order")
    return _view(tx, order_id)


def _is_open(tx: Tx, order: OrderRow, payment_id: str) -> bool:
    """Whether an answer about this payment still matters: it may come twice, or during the next."""
    payment = store.open_capture(tx, order.id)
    return order.status == "paying" and payment is not None and payment.id == payment_id


# --- one step --------------------------------------------------------------------------------


def end_for_lost_hold(tx: Tx, order_id: str, version: int) -> None:
    """An event told that this version of an order's hold has expired."""
    store.lose_hold(tx, order_id, version)
    order = store.get(tx, order_id)
    if order is None or version < order.hold_version:
        return
    if order.status in {"reserved", "paying"}:
        payment = store.open_capture(tx, order_id)
        if payment is not None:
            store.end_capture(tx, payment.id, "abandoned", None)
        _end(tx, order, "expired", "hold expired", "product")


def _end(tx: Tx, order: OrderRow, status: messages.Status, reason: str, actor: str) -> None:
    """The order is over: give its stock and its money back, and drop what was left for it."""
    _step(tx, order, status, reason, actor=actor)
    for action in ("decide", "expire", "capture"):
        tx.undefer(action, key=order.id)
    tx.defer("release", messages.Release(order.id), key=order.id)
    if order.status == "paid":
        tx.defer("refund", messages.Refund(order.id), key=order.id)


def _step(tx: Tx, order: OrderRow, status: messages.Status, reason: str, *, actor: str) -> None:
    """Move an order, with whatever else of it has changed: its row, its history and one event."""
    moved = replace(order, status=status, reason=reason, version=order.version + 1)
    store.save(tx, moved)
    lines = [
        messages.ToldLine(line.product_id, line.quantity) for line in store.lines(tx, order.id)
    ]
    _note(tx, moved, order.status, actor, lines)


def _note(tx: Tx, order: OrderRow, old: str, actor: str, lines: list[messages.ToldLine]) -> None:
    """Write down and tell the step by which an order came to be as it is now."""
    store.append_step(tx, order, old, actor)
    tx.tell(
        messages.StatusChanged(
            order_id=order.id,
            user_id=order.user_id,
            old=old,
            new=order.status,
            version=order.version,
            reason=order.reason,
            total_minor=order.total_minor,
            currency=order.currency,
            lines=lines,
        )
    )


def _present(reads: Reader | Tx, order_id: str) -> OrderRow:
    found = store.get(reads, order_id)
    if found is None:
        raise NotFound("there is no such order")
    return found


def _visible(ctx: Context, order_id: str) -> OrderRow:
    """The order, for its owner or staff; for anybody else there is none."""
    order = _present(ctx.read, order_id)
    if order.user_id != ctx.caller.id and not ctx.caller.has("staff"):
        raise NotFound("there is no such order")
    return order


def _own(ctx: Context, order_id: str) -> OrderRow:
    order = _present(ctx.read, order_id)
    if order.user_id != ctx.caller.id:
        raise NotFound("there is no such order")
    return order


def _view(reads: Reader | Tx, order_id: str) -> OrderView:
    return _show(reads, _present(reads, order_id))


def _show(reads: Reader | Tx, order: OrderRow) -> OrderView:
    address = store.ship_to(reads, order.id)
    if address is None:
        raise Broken(f"order {order.id} has no address")
    return messages.OrderView(
        id=order.id,
        user_id=order.user_id,
        status=order.status,
        reason=order.reason,
        lines=store.lines(reads, order.id),
        ship_to=address,
        on_shortage=order.on_shortage,
        subtotal_minor=order.subtotal_minor,
        shipping_minor=order.shipping_minor,
        total_minor=order.total_minor,
        currency=order.currency,
        held_until=None if order.held_until_ms is None else iso(order.held_until_ms),
        created_at=iso(order.created_ms),
        version=order.version,
    )
