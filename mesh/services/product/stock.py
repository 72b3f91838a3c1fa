"""Stock changes here and nowhere else: the product, one ledger row and its events, or nothing at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh.errors import Conflict
from mesh.services.product import messages, model, store

if TYPE_CHECKING:
    from mesh.framework import Tx


def move(tx: Tx, product_id: str, d_on_hand: int, d_reserved: int, reason: str, ref: str) -> None:
    """Change stock and tell of it; the edges are told besides, so that people hear of them alone.

    Raises: Conflict (`would-oversell`) when less would be left than is reserved.
    """
    stock = _change(tx, product_id, d_on_hand, d_reserved, reason, ref)
    before = stock.available - d_on_hand + d_reserved
    about = (product_id, stock.sku, stock.stock_version)
    for edge in model.edges(before, stock.available, stock.low_water):
        match edge:
            case "out":
                tx.tell(messages.OutOfStock(*about))
            case "back":
                tx.tell(messages.BackInStock(*about, stock.available))
            case "low":
                tx.tell(messages.LowStock(*about, stock.available, stock.low_water))


def begin(tx: Tx, product_id: str, on_hand: int, reason: str) -> None:
    """The first stock of a new product: nothing is back that was never there."""
    _change(tx, product_id, on_hand, 0, reason, "")


def _change(
    tx: Tx, product_id: str, d_on_hand: int, d_reserved: int, reason: str, ref: str
) -> store.Stock:
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
            available=stock.available,
            d_on_hand=d_on_hand,
            d_reserved=d_reserved,
            reason=reason,
            ref=ref,
            stock_version=stock.stock_version,
        )
    )
    return stock
