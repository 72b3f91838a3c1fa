"""Forgetting: of somebody who was erased nothing stays that tells who they were, or where they live.

Their orders stay, for the books, under an id that leads to nobody. What can still be cancelled is:
there is nobody left to ship it to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh.services.order import messages, model, store
from mesh.services.order.steps import step

if TYPE_CHECKING:
    from mesh.framework import Context, Tx

ABANDON_MAX = 50
"""Orders cancelled in one transaction: others wait for the writer meanwhile."""


def erase(tx: Tx, user_id: str) -> None:
    """Forget addresses, words and kept answers at once; what is open is cancelled right after."""
    store.forget_addresses(tx, user_id)
    store.forget_reasons(tx, user_id)
    store.forget_answers(tx, user_id)
    tx.defer("abandon", messages.Abandon(user_id), key=user_id)


async def abandon(ctx: Context, request: messages.Abandon) -> None:
    """Deferred: cancel what an erased person had still open, the oldest first."""
    after: str | None = ""
    while after is not None:
        after = await ctx.write_aside(_abandon, request.user_id, after)


def _abandon(tx: Tx, user_id: str, after: str) -> str | None:
    """Cancel the next orders; the last one looked at, or None at the end."""
    orders = store.orders_of(tx, user_id, after, ABANDON_MAX)
    for order in orders:
        if model.MOVES.find(order.status, "cancel") is not None:
            step(tx, order, "cancel", "its owner was erased", actor="user")
    return orders[-1].id if len(orders) == ABANDON_MAX else None
