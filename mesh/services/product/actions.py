"""What product is asked: one function for each operation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from mesh.errors import Broken, Conflict, Gone, NotFound
from mesh.services.product import messages, model, store

if TYPE_CHECKING:
    from mesh.framework import Context, Tx
    from mesh.services.product.messages import HoldView, ProductView, QuotedLine


async def create(ctx: Context, request: messages.CreateProduct) -> ProductView:
    """Add a product to the catalogue.

    Raises: Conflict (`sku-taken`).
    """
    return await ctx.conclude(_create, ctx.entity_id("prd"), request)


def _create(tx: Tx, product_id: str, request: messages.CreateProduct) -> ProductView:
    found = store.get(tx, product_id)
    if found is not None:
        return found
    if store.sku_taken(tx, request.sku):
        raise Conflict(f"a product with SKU {request.sku} exists", code="sku-taken")
    add(tx, product_id, request, reason="created")
    return _present(tx, product_id)


def add(
    tx: Tx,
    product_id: str,
    product: messages.CreateProduct | messages.SeedProduct,
    *,
    reason: str,
) -> None:
    """Insert, tell, and take its first stock on the ledger."""
    store.insert(tx, product_id, product)
    tx.tell(
        messages.Created(
            product_id, product.sku, product.name, product.price_minor, product.currency, 1
        )
    )
    if product.on_hand:
        _move(tx, product_id, product.on_hand, 0, reason, "")


def plant(tx: Tx, seed: messages.Seed) -> None:
    """The configuration's products, with their fixed ids."""
    for product in seed.products:
        add(tx, product.id, product, reason="seed")


async def get(ctx: Context, request: messages.GetProduct) -> ProductView:
    """Show a product."""
    found = store.get(ctx.read, request.id)
    if found is None:
        raise NotFound("there is no such product")
    return found


async def list_products(ctx: Context, request: messages.ListProducts) -> messages.ProductPage:
    """Show a page of the catalogue."""
    sql, params = store.page(request)
    if (request.q, request.status, request.in_stock) == (None, None, None):
        rows = ctx.read.all(messages.ProductView, sql, **params)
    else:  # few may match, or none
        rows = await ctx.scan(messages.ProductView, sql, **params)
    items = rows[: request.page_size]
    more = len(rows) > len(items)
    return messages.ProductPage(items, items[-1].id if more else None)


async def quote(ctx: Context, request: messages.Quote) -> messages.QuoteView:
    """Say what is available and what it costs, right now.

    Raises: NotFound (`unknown-product`).
    """
    lines = [
        _known(store.quoted(ctx.read, product_id, quantity), product_id)
        for product_id, quantity in model.merged(request.lines).items()
    ]
    return messages.QuoteView(lines, enough=not model.shortages(lines))


async def restock(ctx: Context, request: messages.Restock) -> ProductView:
    """Change what is on hand.

    Raises: NotFound; Conflict (`would-oversell`) when less would be left than is reserved.
    """
    return await ctx.conclude(_restock, request)


def _restock(tx: Tx, request: messages.Restock) -> ProductView:
    if store.get(tx, request.id) is None:
        raise NotFound("there is no such product")
    _move(tx, request.id, request.delta, 0, request.reason, "")
    return _present(tx, request.id)


async def hold(ctx: Context, request: messages.Hold) -> HoldView:
    """Hold stock for an order, all of it or nothing.

    Asked again with the same lines, it answers with the same hold.

    Raises: NotFound (`unknown-product`); Conflict (`insufficient-stock` with `shortages`, `lines`
    and the `versions` they were read at; `hold-differs`); Gone (`hold-gone`).
    """
    return await ctx.write(_hold, request.order_id, model.merged(request.lines))


def _hold(tx: Tx, order_id: str, wanted: dict[str, int]) -> HoldView:
    found = store.get_hold(tx, order_id)
    before = store.hold_lines(tx, order_id) if found else []
    same = {line.product_id: line.quantity for line in before} == wanted
    version = model.version_to_hold(found, same)
    if version is None:
        return _view(tx, order_id)
    lines = [
        _known(store.quoted(tx, product_id, quantity), product_id)
        for product_id, quantity in wanted.items()
    ]
    short = model.shortages(lines)
    if short:
        raise Conflict(
            "there is not enough stock",
            code="insufficient-stock",
            shortages=short,
            versions={line.product_id: line.stock_version for line in lines},
            lines=lines,
        )
    expires_at_ms = tx.now_ms + model.HOLD_MS
    store.put_hold(tx, order_id, version, expires_at_ms)
    if found is not None:
        store.clear_hold_lines(tx, order_id)
    for line in lines:
        store.put_hold_line(tx, order_id, line)
        _move(tx, line.product_id, 0, line.quantity, "hold", order_id)
    tx.defer("expire-hold", messages.ExpireHold(order_id), key=order_id, on_ms=expires_at_ms)
    held = [
        replace(
            line,
            available=line.available - line.quantity,
            stock_version=line.stock_version + 1,
        )
        for line in lines
    ]
    return messages.HoldView(order_id, "held", version, expires_at_ms, held)


async def commit_hold(ctx: Context, request: messages.HoldRef) -> HoldView:
    """Keep an order's stock for good: it is about to be paid.

    Raises: Gone (`hold-gone`) when it was released, has expired or never was.
    """
    return await ctx.write(_commit, request.order_id)


def _commit(tx: Tx, order_id: str) -> HoldView:
    found = store.get_hold(tx, order_id)
    if found is None or found.state in {"released", "expired"}:
        raise Gone("this order holds no stock any more", code="hold-gone")
    if found.state == "held":
        store.set_hold_state(tx, order_id, "committed")
        tx.undefer("expire-hold", key=order_id)
    return _view(tx, order_id)


async def release_hold(ctx: Context, request: messages.HoldRef) -> None:
    """Give an order's stock back; for an unknown order, make sure that none is held later."""
    await ctx.write(_release, request.order_id)


def _release(tx: Tx, order_id: str) -> None:
    found = store.get_hold(tx, order_id)
    if found is None:
        store.put_tombstone(tx, order_id)
        return
    if found.state == "released":
        return
    if found.state in {"held", "committed"}:
        _give_back(tx, order_id, "release")
    store.set_hold_state(tx, order_id, "released")
    tx.undefer("expire-hold", key=order_id)


async def expire_hold(ctx: Context, request: messages.ExpireHold) -> None:
    """Deferred: give back stock that was held but not paid in time."""
    await ctx.write(_expire, request.order_id)


def _expire(tx: Tx, order_id: str) -> None:
    found = store.get_hold(tx, order_id)
    if found is None or found.state != "held" or found.expires_at_ms > tx.now_ms:
        return
    _give_back(tx, order_id, "expire")
    store.set_hold_state(tx, order_id, "expired")
    tx.tell(messages.HoldExpired(order_id, found.version))


def _give_back(tx: Tx, order_id: str, reason: str) -> None:
    for line in store.hold_lines(tx, order_id):
        _move(tx, line.product_id, 0, -line.quantity, reason, order_id)


def _move(tx: Tx, product_id: str, d_on_hand: int, d_reserved: int, reason: str, ref: str) -> None:
    """Change stock: the product, one ledger row and one event, or nothing at all."""
    stock = store.move_stock(tx, product_id, d_on_hand, d_reserved)
    if stock is None:
        raise Conflict("less would be left than is reserved", code="would-oversell")
    store.append_ledger(tx, product_id, stock, d_on_hand, d_reserved, reason, ref)
    tx.tell(
        messages.StockChanged(
            product_id=product_id,
            sku=stock.sku,
            on_hand=stock.on_hand,
            reserved=stock.reserved,
            available=stock.on_hand - stock.reserved,
            d_on_hand=d_on_hand,
            d_reserved=d_reserved,
            reason=reason,
            ref=ref,
            stock_version=stock.stock_version,
        )
    )


def _known(line: QuotedLine | None, product_id: str) -> QuotedLine:
    if line is None:
        raise NotFound("a product is not sold here", code="unknown-product", product_id=product_id)
    return line


def _present(tx: Tx, product_id: str) -> ProductView:
    found = store.get(tx, product_id)
    if found is None:
        raise Broken(f"product {product_id} vanished within a transaction")
    return found


def _view(tx: Tx, order_id: str) -> HoldView:
    found = store.get_hold(tx, order_id)
    if found is None:
        raise Broken(f"hold {order_id} vanished within a transaction")
    return messages.HoldView(
        order_id,
        found.state,
        found.version,
        found.expires_at_ms,
        store.hold_lines(tx, order_id),
    )
