"""What user hears: how the orders of its people go on, for a view of their history."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh.services.user import store

if TYPE_CHECKING:
    from mesh.framework import Tx
    from mesh.services.user.messages import StatusChanged


def on_order_status_changed(tx: Tx, event: StatusChanged) -> None:
    """Remember the newest status of an order; of somebody who is no more, nothing."""
    store.see_order(tx, event)
