"""What product is asked about its catalogue: one function for each operation. Holds are in `holding.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh.errors import Broken, Conflict, NotFound
from mesh.framework import check_match, iso
from mesh.services.product import holding, messages, model, stock, store

if TYPE_CHECKING:
    from mesh.framework import Context, Reader, Tx
    from mesh.services.product.messages import ProductView


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
    _add(tx, product_id, request, reason="created")
    return _written(tx, product_id)


def _add(
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
        stock.begin(tx, product_id, product.on_hand, reason)


def plant(tx: Tx, seed: messages.Seed) -> None:
    """The configuration's products and holds, with their fixed ids."""
    for product in seed.products:
        _add(tx, product.id, product, reason="seed")
    for held in seed.holds:
        holding.plant(tx, held)


async def get(ctx: Context, request: messages.GetProduct) -> ProductView:
    """Show a product."""
    return _present(ctx.read, request.id)


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


async def update(ctx: Context, request: messages.UpdateProduct) -> ProductView:
    """Change what the catalogue says of a product; what is left out stays.

    Raises: NotFound; PreconditionFailed. A change to what is there already is none.
    """
    return await ctx.conclude(_update, request, ctx.match)


def _update(tx: Tx, request: messages.UpdateProduct, match: frozenset[str]) -> ProductView:
    before = _present(tx, request.id)
    check_match(match, before.version)
    changed = model.changes(before, request)
    if not changed:
        return before
    store.update(tx, before, request)
    after = _written(tx, request.id)
    tx.tell(
        messages.Updated(
            product_id=after.id,
            sku=after.sku,
            name=after.name,
            description=after.description,
            price_minor=after.price_minor,
            currency=after.currency,
            low_water=after.low_water,
            changed=changed,
            version=after.version,
        )
    )
    if "price_minor" in changed:
        store.append_price(tx, after.id, after.price_minor)
        tx.tell(
            messages.PriceChanged(
                after.id,
                after.sku,
                before.price_minor,
                after.price_minor,
                after.currency,
                after.version,
            )
        )
    return after


async def discontinue(ctx: Context, request: messages.DiscontinueProduct) -> ProductView:
    """Sell a product no longer. What is held for orders is still theirs; once is enough.

    Raises: NotFound; PreconditionFailed.
    """
    return await ctx.conclude(_discontinue, request.id, ctx.match)


def _discontinue(tx: Tx, product_id: str, match: frozenset[str]) -> ProductView:
    before = _present(tx, product_id)
    check_match(match, before.version)
    if before.status == "discontinued":
        return before
    store.discontinue(tx, product_id)
    after = _written(tx, product_id)
    tx.tell(messages.Discontinued(after.id, after.sku, after.version))
    return after


async def quote(ctx: Context, request: messages.Quote) -> messages.QuoteView:
    """Say what is available and what it costs, right now.

    Raises: NotFound (`unknown-product`), Gone (`discontinued`).
    """
    lines = holding.quoted(ctx.read, model.merged(request.lines))
    return messages.QuoteView(lines, enough=not model.shortages(lines))


async def restock(ctx: Context, request: messages.Restock) -> ProductView:
    """Change what is on hand.

    Raises: NotFound; Conflict (`would-oversell`) when less would be left than is reserved,
    (`too-much-stock`) when more than can be counted.
    """
    return await ctx.conclude(_restock, request)


def _restock(tx: Tx, request: messages.Restock) -> ProductView:
    before = _present(tx, request.id)
    if before.on_hand + request.delta > messages.STOCK_MAX:
        raise Conflict(f"at most {messages.STOCK_MAX} are counted", code="too-much-stock")
    stock.move(tx, request.id, request.delta, 0, request.reason, "")
    return _written(tx, request.id)


async def ledger(ctx: Context, request: messages.ListLedger) -> messages.LedgerPage:
    """Show how a product's stock came to be what it is, the newest change first.

    Raises: NotFound.
    """
    _present(ctx.read, request.id)
    before = int(request.page_token) if request.page_token else messages.STOCK_VERSION_MAX
    rows = store.ledger(ctx.read, request.id, before, request.page_size + 1)
    items = [_entry(row) for row in rows[: request.page_size]]
    more = len(rows) > len(items)
    return messages.LedgerPage(items, str(items[-1].stock_version) if more else None)


async def explain(ctx: Context, request: messages.GetProduct) -> messages.Explanation:
    """Tell a product's stock, who holds it and what happened to it last.

    Raises: NotFound.
    """
    found = _present(ctx.read, request.id)
    holds = await ctx.scan(
        store.OpenHoldRow, store.OPEN_HOLDS, id=request.id, most=messages.EXPLAINED_MAX + 1
    )
    rows = store.ledger(ctx.read, request.id, messages.STOCK_VERSION_MAX, messages.EXPLAINED_MAX)
    prices = store.prices(ctx.read, request.id, messages.EXPLAINED_MAX)
    return messages.Explanation(
        id=found.id,
        status=found.status,
        name=found.name,
        sku=found.sku,
        stock=messages.StockView(
            found.on_hand, found.reserved, found.available, found.low_water, found.stock_version
        ),
        waits_for=model.lacks(found),
        holds=[_open(row) for row in holds[: messages.EXPLAINED_MAX]],
        more_holds=len(holds) > messages.EXPLAINED_MAX,
        ledger=[_entry(row) for row in rows],
        prices=[
            messages.PriceView(row.price_minor, found.currency, iso(row.from_ms)) for row in prices
        ],
    )


def _open(row: store.OpenHoldRow) -> messages.OpenHold:
    until = iso(row.expires_at_ms) if row.state == "held" else None
    return messages.OpenHold(row.order_id, row.state, row.quantity, until)


def _entry(row: store.LedgerRow) -> messages.LedgerEntry:
    return messages.LedgerEntry(
        row.stock_version,
        row.d_on_hand,
        row.d_reserved,
        row.on_hand,
        row.reserved,
        row.reason,
        row.ref,
        iso(row.at_ms),
    )


def _present(reads: Reader | Tx, product_id: str) -> ProductView:
    found = store.get(reads, product_id)
    if found is None:
        raise NotFound("there is no such product")
    return found


def _written(tx: Tx, product_id: str) -> ProductView:
    found = store.get(tx, product_id)
    if found is None:
        raise Broken(f"product {product_id} vanished within a transaction")
    return found
