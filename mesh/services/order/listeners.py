"""What order hears: one plain function for each event type, run once for each event."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh.services.order import forgetting, messages, model, placing, replica, store

if TYPE_CHECKING:
    from mesh.framework import Tx


def on_stock_changed(tx: Tx, event: messages.StockChanged) -> None:
    """Remember the newest stock; where more came free, wake the backorders that wait for it.

    A hold takes stock away, so an order's own hold wakes nobody. One for an order that is not here is
    either early, or of a process that died before it wrote the order down.
    """
    replica.see_stock(tx, event.product_id, event.stock_version, event.available)
    if event.reason == "hold" and not store.exists(tx, event.ref):
        tx.defer("disown", messages.Owed(event.ref), key=event.ref, after_s=model.DRIVE_AFTER_S)
    freed = event.d_on_hand - event.d_reserved
    if freed > 0:
        _wake(tx, event.product_id)


def on_created(tx: Tx, event: messages.ProductCreated) -> None:
    """Remember what a new product costs."""
    replica.see_price(tx, event.product_id, event.version, event.price_minor)


def on_price_changed(tx: Tx, event: messages.PriceChanged) -> None:
    """Remember what it costs now; orders that were quoted a price keep it."""
    replica.see_price(tx, event.product_id, event.version, event.price_minor)


def on_discontinued(tx: Tx, event: messages.Discontinued) -> None:
    """Who waits for it waits in vain: asked once more, product refuses and they are cancelled."""
    replica.see_discontinued(tx, event.product_id, event.version)
    _wake(tx, event.product_id)


def on_hold_expired(tx: Tx, event: messages.HoldExpired) -> None:
    """A hold was not paid in time: its order is over, also if the hold's answer is still coming."""
    placing.lose_hold(tx, event.order_id, event.version)


def on_user_erased(tx: Tx, event: messages.UserErased) -> None:
    """Forget who a person was and where they live."""
    forgetting.erase(tx, event.user_id)


def _wake(tx: Tx, product_id: str) -> None:
    if replica.waits(tx, product_id):
        tx.defer("wake", messages.Wake(product_id), key=product_id)
