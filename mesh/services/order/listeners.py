"""What order hears: one plain function for each event type, run once for each event."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh.services.order import actions, messages, store

if TYPE_CHECKING:
    from mesh.framework import Tx


def on_stock_changed(tx: Tx, event: messages.StockChanged) -> None:
    """Remember the newest stock; where more came free, wake the backorders that wait for it.

    A hold takes stock away, so an order's own hold wakes nobody.
    """
    store.see_stock(tx, event.product_id, event.stock_version, event.available)
    freed = event.d_on_hand - event.d_reserved
    if freed > 0 and store.waits(tx, event.product_id):
        tx.defer("wake", messages.Wake(event.product_id), key=event.product_id)


def on_hold_expired(tx: Tx, event: messages.HoldExpired) -> None:
    """A hold was not paid in time: its order is over, also if the hold's answer is still coming."""
    actions.end_for_lost_hold(tx, event.order_id, event.version)
