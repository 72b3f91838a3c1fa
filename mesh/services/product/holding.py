"""Stock held for orders: all of it or nothing, until it is shipped, given back or its time is over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from mesh.errors import Broken, Conflict, Gone, MeshError, NotFound
from mesh.services.product import messages, model, stock, store

if TYPE_CHECKING:
    from mesh.framework import Context, Reader, Tx
    from mesh.services.product.messages import HoldView, QuotedLine

EXPIRED_AT_ONCE = 16
"""Holds that are given back in one transaction: a few milliseconds of work."""


async def hold(ctx: Context, request: messages.Hold) -> HoldView:
    """Hold stock for an order, all of it or nothing.

    Asked again with the same lines, it answers with the same hold.

    Raises: NotFound (`unknown-product`); Conflict (`insufficient-stock` with `shortages`, `lines`
    and the `versions` they were read at; `hold-differs`); Gone (`hold-gone`, `discontinued`).
    """
    return await ctx.write(_hold, request.order_id, model.merged(request.lines))


def _hold(tx: Tx, order_id: str, wanted: dict[str, int]) -> HoldView:
    if len(wanted) == 1:  # of several, none is taken before all are known to be there
        [(product_id, quantity)] = wanted.items()
        line = stock.take(tx, product_id, quantity, order_id)
        if line is not None:
            return _held(tx, order_id, 1, [line])
    found = store.get_hold(tx, order_id)
    before = store.hold_lines(tx, order_id) if found else []
    same = {line.product_id: line.quantity for line in before} == wanted
    version = model.version_to_hold(found, same)
    if version is None:
        return _view(tx, order_id)
    lines = quoted(tx, wanted)
    short = model.shortages(lines)
    if short:
        raise Conflict(
            "there is not enough stock",
            code="insufficient-stock",
            shortages=short,
            versions={line.product_id: line.stock_version for line in lines},
            lines=lines,
        )
    if found is not None:
        store.clear_hold_lines(tx, order_id)
    for line in lines:
        stock.move(tx, line.product_id, 0, line.quantity, "hold", order_id)
    held = [
        replace(
            line,
            available=line.available - line.quantity,
            stock_version=line.stock_version + 1,
        )
        for line in lines
    ]
    return _held(tx, order_id, version, held)


def _held(tx: Tx, order_id: str, version: int, lines: list[QuotedLine]) -> HoldView:
    """The hold of lines whose stock was taken just now."""
    expires_at_ms = tx.now_ms + model.HOLD_MS
    first_ms = store.first_end(tx)
    if first_ms is None or first_ms > expires_at_ms:
        _look_at(tx, expires_at_ms)
    for line in lines:
        store.put_hold_line(tx, order_id, version, expires_at_ms, line)
    return messages.HoldView(order_id, "held", version, expires_at_ms, lines)


def quoted(reads: Reader | Tx, wanted: dict[str, int]) -> list[QuotedLine]:
    """What is to be said of each line right now.

    Raises: NotFound (`unknown-product`), Gone (`discontinued`), each with `product_id`.
    """
    return [_sold(reads, product_id, quantity) for product_id, quantity in wanted.items()]


def _sold(reads: Reader | Tx, product_id: str, quantity: int) -> QuotedLine:
    line = store.quoted(reads, product_id, quantity)
    if line is not None:
        return line
    if store.get(reads, product_id) is None:
        raise NotFound("a product is not sold here", code="unknown-product", product_id=product_id)
    raise Gone("a product is not sold any more", code="discontinued", product_id=product_id)


async def look(ctx: Context, request: messages.HoldRef) -> HoldView:
    """Show what is held for an order.

    Raises: NotFound (`unknown-hold`).
    """
    found = store.get_hold(ctx.read, request.order_id)
    if found is None:
        raise NotFound("nothing was ever held for this order", code="unknown-hold")
    return _show(ctx.read, found)


async def commit_hold(ctx: Context, request: messages.HoldRef) -> HoldView:
    """Keep an order's stock for good: it is about to be paid.

    Raises: Gone (`hold-gone`) when it was released, has expired or never was.
    """
    return await ctx.write(_commit, request.order_id)


def _commit(tx: Tx, order_id: str) -> HoldView:
    found = _not_gone(tx, order_id)
    if found.state == "held":
        store.set_hold_state(tx, order_id, "committed")
    return _view(tx, order_id)


async def ship_hold(ctx: Context, request: messages.HoldRef) -> HoldView:
    """Take what is held off the shelf: it is on its way to the customer. Once is enough.

    Raises: Gone (`hold-gone`) when it was released, has expired or never was.
    """
    return await ctx.write(_ship, request.order_id)


def _ship(tx: Tx, order_id: str) -> HoldView:
    found = _not_gone(tx, order_id)
    if found.state != "shipped":
        for line in store.hold_lines(tx, order_id):
            stock.move(tx, line.product_id, -line.quantity, -line.quantity, "ship", order_id)
        store.set_hold_state(tx, order_id, "shipped")
    return _view(tx, order_id)


async def release_hold(ctx: Context, request: messages.HoldRef) -> None:
    """Give an order's stock back, also when it was shipped and has returned.

    For an unknown order it makes sure that none is held later.
    """
    await ctx.write(_release, request.order_id)


def _release(tx: Tx, order_id: str) -> None:
    found = store.get_hold(tx, order_id)
    if found is None:
        store.put_tombstone(tx, order_id)
        return
    if found.state == "released":
        return
    if found.state == "shipped":
        for line in store.hold_lines(tx, order_id):
            stock.move(tx, line.product_id, line.quantity, 0, "return", order_id)
    elif found.state in model.OPEN:
        _give_back(tx, order_id, "release")
    store.set_hold_state(tx, order_id, "released")


async def expire_holds(ctx: Context, _: messages.ExpireHolds) -> None:
    """Deferred: give back all stock that was held but not paid in time, and come again for the rest.

    A hold that cannot be given back keeps back no other; for its sake all this is tried again.
    """
    failed: MeshError | None = None
    last = store.Over(0, "", "", "")
    while due := store.over(ctx.read, ctx.now_ms, last, EXPIRED_AT_ONCE):
        last = due[-1]
        failed = await ctx.write_each(_expire, due) or failed
    if failed is not None:
        raise failed
    await ctx.write(_look_again)


def _expire(tx: Tx, *due: store.Over) -> None:
    for each in due:
        found = store.get_hold(tx, each.order_id)
        if found is not None and found.state == "held" and found.expires_at_ms <= tx.now_ms:
            its = tx.resumed(each.traceparent, each.cause)
            _give_back(its, each.order_id, "expire")
            store.set_hold_state(its, each.order_id, "expired")
            its.tell(messages.HoldExpired(each.order_id, found.version))


def _look_again(tx: Tx) -> None:
    first_ms = store.first_end(tx)
    if first_ms is not None:
        _look_at(tx, first_ms)


def _look_at(tx: Tx, on_ms: int) -> None:
    """Look for holds that are over once the first one is; there is always such a look to come."""
    tx.defer("expire-holds", messages.ExpireHolds(), key="all", on_ms=on_ms)


def _give_back(tx: Tx, order_id: str, reason: str) -> None:
    for line in store.hold_lines(tx, order_id):
        stock.move(tx, line.product_id, 0, -line.quantity, reason, order_id)


def plant(tx: Tx, seed: messages.SeedHold) -> None:
    """One hold of the configuration: committed, so that its order can be tried at leisure."""
    _hold(tx, seed.order_id, model.merged(seed.lines))
    _commit(tx, seed.order_id)


def _not_gone(tx: Tx, order_id: str) -> model.HoldRow:
    found = store.get_hold(tx, order_id)
    if found is None or found.state in {"released", "expired"}:
        raise Gone("this order holds no stock any more", code="hold-gone")
    return found


def _view(tx: Tx, order_id: str) -> HoldView:
    found = store.get_hold(tx, order_id)
    if found is None:
        raise Broken(f"hold {order_id} vanished within a transaction")
    return _show(tx, found)


def _show(reads: Reader | Tx, found: model.HoldRow) -> HoldView:
    return messages.HoldView(
        found.order_id,
        found.state,
        found.version,
        found.expires_at_ms,
        store.hold_lines(reads, found.order_id),
    )
