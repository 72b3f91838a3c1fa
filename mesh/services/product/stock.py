"""Stock changes here and nowhere else: the product, one ledger row and its events, or nothing at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh.errors import Broken, Conflict
from mesh.services.product import messages, model, store

if TYPE_CHECKING:
    from mesh.framework import Tx
    from mesh.services.product.store import Stock


def move(tx: Tx, product_id: str, d_on_hand: int, d_reserved: int, reason: str, ref: str) -> None:
    """Change stock and tell of it; the edges are told besides, so that people hear of them alone.

    Raises: Conflict (`would-oversell`) when less would be left than is reserved.
    """
    stock = _change(tx, product_id, d_on_hand, d_reserved)
    _tell(tx, product_id, stock, d_on_hand, d_reserved, reason, ref)
    _tell_edges(tx, product_id, stock, d_on_hand - d_reserved)


def take(tx: Tx, product_id: str, quantity: int, order_id: str) -> messages.QuotedLine | None:
    """Reserve for an order that has no hold yet, without a look beforehand.

    None, nothing being changed, when it has one, there is not enough, or it is not sold.
    """
    if not store.take(tx, product_id, quantity, order_id):
        return None
    stock = _stock(tx, product_id)
    _tell(tx, product_id, stock, 0, quantity, "hold", order_id)
    _tell_edges(tx, product_id, stock, -quantity)
    return messages.QuotedLine(
        product_id,
        stock.sku,
        stock.name,
        quantity,
        stock.unit_price_minor,
        stock.currency,
        stock.available,
        stock.stock_version,
    )


def begin(tx: Tx, product_id: str, on_hand: int, reason: str) -> None:
    """The first stock of a new product: nothing is back that was never there."""
    stock = _change(tx, product_id, on_hand, 0)
    _tell(tx, product_id, stock, on_hand, 0, reason, "")


def _change(tx: Tx, product_id: str, d_on_hand: int, d_reserved: int) -> Stock:
    if not store.move_stock(tx, product_id, d_on_hand, d_reserved):
        raise Conflict("less would be left than is reserved", code="would-oversell")
    return _stock(tx, product_id)


def _stock(tx: Tx, product_id: str) -> Stock:
    found = store.stock(tx, product_id)
    if found is None:
        raise Broken(f"product {product_id} vanished within a transaction")
    return found


def _tell_edges(tx: Tx, product_id: str, stock: Stock, d_available: int) -> None:
    about = (product_id, stock.sku, stock.stock_version)
    for edge in model.edges(stock.available - d_available, stock.available, stock.low_water):
        match edge:
            case "out":
                tx.tell(messages.OutOfStock(*about))
            case "back":
                tx.tell(messages.BackInStock(*about, stock.available))
            case "low":
                tx.tell(messages.LowStock(*about, stock.available, stock.low_water))


def _tell(
    tx: Tx, product_id: str, stock: Stock, d_on_hand: int, d_reserved: int, reason: str, ref: str
) -> None:
    store.append_ledger(tx, product_id, stock, d_on_hand, d_reserved, reason, ref)
    tx.tell(
        messages.StockChanged(
            product_id=product_id,
            sku=stock.sku,
            on_hand=stock.on_hand,
            reserved=stock.reserved,
            available=stock.available,
            d_on_hand=d_on_hand,
            d_reserved=d_reserved,
            reason=reason,
            ref=ref,
            stock_version=stock.stock_version,
        )
    )
