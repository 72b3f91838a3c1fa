"""All SQL of product, and nothing but SQL. Every function takes a transaction or a reader."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from mesh.services.product.messages import HoldState, ProductView, QuotedLine
from mesh.services.product.model import HoldRow

if TYPE_CHECKING:
    from mesh.framework import Reader, Tx
    from mesh.services.product.messages import (
        CreateProduct,
        ListProducts,
        SeedProduct,
        UpdateProduct,
    )

_VIEW = (
    "SELECT id, sku, name, description, price_minor, currency, on_hand, reserved,"
    " on_hand - reserved AS available, low_water, status, version, stock_version FROM products"
)


class Stock(Struct, frozen=True):
    """A product's stock, and what is to be said of a line of it."""

    sku: str
    name: str
    on_hand: int
    reserved: int
    available: int
    low_water: int
    stock_version: int
    unit_price_minor: int
    currency: str


class LedgerRow(Struct, frozen=True):
    """One change of a product's stock."""

    stock_version: int
    d_on_hand: int
    d_reserved: int
    on_hand: int
    reserved: int
    reason: str
    ref: str
    at_ms: int


class PriceRow(Struct, frozen=True):
    """A price, and since when."""

    price_minor: int
    from_ms: int


class OpenHoldRow(Struct, frozen=True):
    """What one order holds of one product."""

    order_id: str
    state: HoldState
    quantity: int
    expires_at_ms: int


class Over(Struct, frozen=True):
    """A hold whose time is over, and the request that it was made for."""

    expires_at_ms: int
    order_id: str
    traceparent: str
    cause: str


def insert(tx: Tx, product_id: str, product: CreateProduct | SeedProduct) -> None:
    """Add a product without stock.

    Raises: Conflict (constraint) when the SKU is taken.
    """
    tx.execute(
        "INSERT INTO products (id, sku, name, description, price_minor, currency, low_water)"
        " VALUES (:id, :sku, :name, :description, :price_minor, :currency, :low_water)",
        id=product_id,
        sku=product.sku,
        name=product.name,
        description=product.description,
        price_minor=product.price_minor,
        currency=product.currency,
        low_water=product.low_water,
    )
    append_price(tx, product_id, product.price_minor)


def append_price(tx: Tx, product_id: str, price_minor: int) -> None:
    """From now on it costs this; of two changes within a millisecond the later one counts."""
    tx.execute(
        "INSERT INTO prices (product_id, price_minor, from_ms) VALUES (:id, :price_minor, :now)"
        " ON CONFLICT (product_id, from_ms) DO UPDATE SET price_minor = excluded.price_minor",
        id=product_id,
        price_minor=price_minor,
        now=tx.now_ms,
    )


def update(tx: Tx, before: ProductView, wanted: UpdateProduct) -> None:
    """Change what the catalogue says; None leaves a member as it is."""
    tx.execute(
        "UPDATE products SET name = coalesce(:name, name),"
        " description = coalesce(:description, description),"
        " price_minor = coalesce(:price_minor, price_minor),"
        " low_water = coalesce(:low_water, low_water), version = version + 1 WHERE id = :id",
        id=before.id,
        name=wanted.name,
        description=wanted.description,
        price_minor=wanted.price_minor,
        low_water=wanted.low_water,
    )


def discontinue(tx: Tx, product_id: str) -> None:
    """Sell it no longer."""
    tx.execute(
        "UPDATE products SET status = 'discontinued', version = version + 1 WHERE id = :id",
        id=product_id,
    )


def prices(reads: Reader, product_id: str, most: int) -> list[PriceRow]:
    """What a product has cost, the newest price first."""
    return reads.all(
        PriceRow,
        "SELECT price_minor, from_ms FROM prices WHERE product_id = :id"
        " ORDER BY from_ms DESC LIMIT :most",
        id=product_id,
        most=most,
    )


def ledger(reads: Reader, product_id: str, before: int, most: int) -> list[LedgerRow]:
    """A product's latest changes of stock older than `before`, the newest first."""
    return reads.all(
        LedgerRow,
        "SELECT stock_version, d_on_hand, d_reserved, on_hand, reserved, reason, ref, at_ms"
        " FROM ledger WHERE product_id = :id AND stock_version < :before"
        " ORDER BY stock_version DESC LIMIT :most",
        id=product_id,
        before=before,
        most=most,
    )


def sku_taken(tx: Tx, sku: str) -> bool:
    """Whether a product has this SKU."""
    return tx.one(int, "SELECT 1 FROM products WHERE sku = :sku", sku=sku) is not None


def get(reads: Reader | Tx, product_id: str) -> ProductView | None:
    """One product."""
    return reads.one(ProductView, f"{_VIEW} WHERE id = :id", id=product_id)


def page(wanted: ListProducts) -> tuple[str, dict[str, str | int | None]]:
    """What finds one row more than the page holds, so that the caller sees if there is a next."""
    return (
        f"{_VIEW} WHERE id > :after"
        " AND (:q IS NULL OR instr(lower(name), lower(:q)) OR instr(lower(sku), lower(:q)))"
        " AND (:status IS NULL OR status = :status)"
        " AND (:in_stock IS NULL OR (on_hand > reserved) = :in_stock)"
        " ORDER BY id LIMIT :most"
    ), {
        "after": wanted.page_token or "",
        "q": wanted.q,
        "status": wanted.status,
        "in_stock": None if wanted.in_stock is None else int(wanted.in_stock),
        "most": wanted.page_size + 1,
    }


def quoted(reads: Reader | Tx, product_id: str, quantity: int) -> QuotedLine | None:
    """What is to be said of one line right now; None for a product that is not sold."""
    return reads.one(
        QuotedLine,
        "SELECT id AS product_id, sku, name, :quantity AS quantity,"
        " price_minor AS unit_price_minor, currency, on_hand - reserved AS available,"
        " stock_version FROM products WHERE id = :id AND status = 'active'",
        id=product_id,
        quantity=quantity,
    )


def stock(tx: Tx, product_id: str) -> Stock | None:
    """A product's stock as it is by now."""
    return tx.one(
        Stock,
        "SELECT sku, name, on_hand, reserved, on_hand - reserved AS available, low_water,"
        " stock_version, price_minor AS unit_price_minor, currency FROM products WHERE id = :id",
        id=product_id,
    )


def move_stock(tx: Tx, product_id: str, d_on_hand: int, d_reserved: int) -> bool:
    """Change a product's stock; False when that would leave the bounds 0 ≤ reserved ≤ on_hand."""
    changed = tx.execute(
        "UPDATE products SET on_hand = on_hand + :d_on_hand, reserved = reserved + :d_reserved,"
        " stock_version = stock_version + 1"
        " WHERE id = :id AND reserved + :d_reserved >= 0"
        " AND reserved + :d_reserved <= on_hand + :d_on_hand",
        id=product_id,
        d_on_hand=d_on_hand,
        d_reserved=d_reserved,
    )
    return changed == 1


def take(tx: Tx, product_id: str, quantity: int, order_id: str) -> bool:
    """Reserve for an order that has no hold yet.

    False, nothing being changed, when it has one, there is not enough, or it is not sold.
    """
    changed = tx.execute(
        "UPDATE products SET reserved = reserved + :quantity, stock_version = stock_version + 1"
        " WHERE id = :id AND status = 'active' AND on_hand - reserved >= :quantity"
        " AND NOT EXISTS (SELECT 1 FROM hold_lines WHERE order_id = :order_id)"
        " AND NOT EXISTS (SELECT 1 FROM never_held WHERE order_id = :order_id)",
        id=product_id,
        quantity=quantity,
        order_id=order_id,
    )
    return changed == 1


def append_ledger(
    tx: Tx, product_id: str, stock: Stock, d_on_hand: int, d_reserved: int, reason: str, ref: str
) -> None:
    """One row for one change of stock; never altered."""
    tx.execute(
        "INSERT INTO ledger"
        " (product_id, stock_version, d_on_hand, d_reserved, on_hand, reserved, reason, ref, at_ms)"
        " VALUES (:product_id, :stock_version, :d_on_hand, :d_reserved, :on_hand, :reserved,"
        " :reason, :ref, :now)",
        product_id=product_id,
        stock_version=stock.stock_version,
        d_on_hand=d_on_hand,
        d_reserved=d_reserved,
        on_hand=stock.on_hand,
        reserved=stock.reserved,
        reason=reason,
        ref=ref,
        now=tx.now_ms,
    )


def get_hold(reads: Reader | Tx, order_id: str) -> HoldRow | None:
    """An order's hold, in whatever state."""
    return reads.one(
        HoldRow,
        "SELECT order_id, state, version, expires_at_ms FROM hold_lines WHERE order_id = :order_id"
        " UNION ALL SELECT order_id, 'released', 0, 0 FROM never_held WHERE order_id = :order_id"
        " LIMIT 1",
        order_id=order_id,
    )


def hold_lines(reads: Reader | Tx, order_id: str) -> list[QuotedLine]:
    """What a hold holds, at the price it was held for."""
    return reads.all(
        QuotedLine,
        "SELECT l.product_id, p.sku, p.name, l.quantity, l.unit_price_minor, p.currency,"
        " p.on_hand - p.reserved AS available, p.stock_version"
        " FROM hold_lines l JOIN products p ON p.id = l.product_id"
        " WHERE l.order_id = :order_id ORDER BY l.product_id LIMIT 100",
        order_id=order_id,
    )


_OPEN = "state IN ('held', 'committed')"
"""As the index says it."""

OPEN_HOLDS = (
    "SELECT order_id, state, quantity, expires_at_ms FROM hold_lines"  # noqa: S608  our own
    f" WHERE product_id = :id AND {_OPEN} ORDER BY order_id LIMIT :most"
)
"""Who holds some of a product, the oldest order first; there may be many to look through."""


def over(reads: Reader, now_ms: int, after: Over, most: int) -> list[Over]:
    """Holds whose time is over, those that ended first, beyond `after`."""
    return reads.all(
        Over,
        "SELECT DISTINCT expires_at_ms, order_id, traceparent, cause FROM hold_lines"  # noqa: S608  our own
        f" WHERE {_OPEN} AND state = 'held' AND expires_at_ms <= :now"
        " AND (expires_at_ms, order_id) > (:after_ms, :after_id)"
        " ORDER BY expires_at_ms, order_id LIMIT :most",
        now=now_ms,
        after_ms=after.expires_at_ms,
        after_id=after.order_id,
        most=most,
    )


def first_end(tx: Tx) -> int | None:
    """When the first of all holds ends that may end."""
    return tx.one(
        int,
        f"SELECT min(expires_at_ms) FROM hold_lines WHERE {_OPEN} AND state = 'held'",  # noqa: S608  our own
    )


def clear_hold_lines(tx: Tx, order_id: str) -> None:
    """Forget what an expired hold held, before it is held anew."""
    tx.execute("DELETE FROM hold_lines WHERE order_id = :order_id", order_id=order_id)


def put_hold_line(
    tx: Tx, order_id: str, version: int, expires_at_ms: int, line: QuotedLine
) -> None:
    """One product of a hold, on behalf of whoever this change comes from."""
    tx.execute(
        "INSERT INTO hold_lines (order_id, product_id, quantity, unit_price_minor, state, version,"
        " expires_at_ms, traceparent, cause)"
        " VALUES (:order_id, :product_id, :quantity, :unit_price_minor, 'held', :version,"
        " :expires_at_ms, :traceparent, :cause)",
        order_id=order_id,
        product_id=line.product_id,
        quantity=line.quantity,
        unit_price_minor=line.unit_price_minor,
        version=version,
        expires_at_ms=expires_at_ms,
        traceparent=tx.trace.traceparent,
        cause=tx.cause,
    )


def put_tombstone(tx: Tx, order_id: str) -> None:
    """A release that came before its hold: no later hold may succeed."""
    tx.execute("INSERT INTO never_held (order_id) VALUES (:order_id)", order_id=order_id)


def set_hold_state(tx: Tx, order_id: str, state: HoldState) -> None:
    """Move a hold to another state."""
    tx.execute(
        "UPDATE hold_lines SET state = :state WHERE order_id = :order_id",
        order_id=order_id,
        state=state,
    )
