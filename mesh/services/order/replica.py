"""What order knows of product from its events, and which orders wait for it: SQL and nothing but SQL.

Good for waking backorders and for telling which answer is older than an event; not for selling.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mesh.framework import Reader, Tx

WAKE_MAX = 200
"""Backorders of one product that are tried in one go."""


EVERY_VERSION = 2**62
"""Of a hold: later than any there will be."""


class SeenRow(Struct, frozen=True):
    """The newest heard of a product; `price_minor` is None where its creation was not heard."""

    product_id: str
    stock_version: int
    available: int
    price_minor: int | None
    discontinued: bool


def see_stock(tx: Tx, product_id: str, stock_version: int, available: int) -> None:
    """Keep the newest stock heard of."""
    tx.execute(
        "INSERT INTO stock_seen (product_id, stock_version, available)"
        " VALUES (:product_id, :version, :available)"
        " ON CONFLICT (product_id) DO UPDATE SET stock_version = excluded.stock_version,"
        " available = excluded.available WHERE excluded.stock_version > stock_seen.stock_version",
        product_id=product_id,
        version=stock_version,
        available=available,
    )


def see_price(tx: Tx, product_id: str, version: int, price_minor: int) -> None:
    """Keep the newest price heard of."""
    tx.execute(
        "INSERT INTO stock_seen (product_id, stock_version, available, version, price_minor)"
        " VALUES (:product_id, 0, 0, :version, :price_minor)"
        " ON CONFLICT (product_id) DO UPDATE SET version = excluded.version,"
        " price_minor = excluded.price_minor WHERE excluded.version > stock_seen.version",
        product_id=product_id,
        version=version,
        price_minor=price_minor,
    )


def see_discontinued(tx: Tx, product_id: str, version: int) -> None:
    """Keep that a product is sold no longer: that is for good."""
    tx.execute(
        "INSERT INTO stock_seen (product_id, stock_version, available, version, discontinued)"
        " VALUES (:product_id, 0, 0, :version, 1)"
        " ON CONFLICT (product_id) DO UPDATE SET discontinued = 1,"
        " version = max(stock_seen.version, excluded.version)",
        product_id=product_id,
        version=version,
    )


def seen(reads: Reader | Tx, product_ids: Iterable[str]) -> dict[str, SeenRow]:
    """The newest heard of each of these products."""
    sql = (
        "SELECT product_id, stock_version, available, price_minor, discontinued"
        " FROM stock_seen WHERE product_id = :id"
    )
    rows = [reads.one(SeenRow, sql, id=product_id) for product_id in product_ids]
    return {row.product_id: row for row in rows if row is not None}


def lose_hold(tx: Tx, order_id: str, version: int) -> None:
    """Note that a hold of this version has expired."""
    tx.execute(
        "INSERT INTO hold_lost (order_id, version) VALUES (:id, :version)"
        " ON CONFLICT (order_id) DO UPDATE SET version = max(version, excluded.version)",
        id=order_id,
        version=version,
    )


def lost_version(reads: Reader | Tx, order_id: str) -> int:
    """The newest hold of this order known to have expired; 0 for none."""
    found = reads.one(int, "SELECT version FROM hold_lost WHERE order_id = :id", id=order_id)
    return found or 0


def waits(reads: Reader | Tx, product_id: str) -> bool:
    """Whether a backorder waits for this product."""
    sql = "SELECT 1 FROM backorders WHERE product_id = :product_id LIMIT 1"
    return reads.one(int, sql, product_id=product_id) is not None


def waiting(reads: Reader, product_id: str, after: str) -> list[str]:
    """The next backorders beyond `after` that want this product, the oldest first."""
    return reads.all(
        str,
        "SELECT order_id FROM backorders WHERE product_id = :product_id AND order_id > :after"
        " ORDER BY order_id LIMIT :most",
        product_id=product_id,
        after=after,
        most=WAKE_MAX,
    )
