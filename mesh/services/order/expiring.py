"""Expiring: an order that is not paid in time is over, by order's own clock, also with product away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh.services.order import messages, store
from mesh.services.order.steps import look_at, present, step

if TYPE_CHECKING:
    from mesh.errors import MeshError
    from mesh.framework import Context, Tx

EXPIRED_AT_ONCE = 16
"""Orders that end in one transaction: a few milliseconds of work."""


async def expire(ctx: Context, _: messages.Expire) -> None:
    """Deferred: end all orders that were not paid in time, and come again for the rest.

    An order that cannot be ended keeps back no other; for its sake all this is tried again.
    """
    failed: MeshError | None = None
    last = store.Unpaid(0, "", "", "")
    while due := store.unpaid(ctx.read, ctx.now_ms, last, EXPIRED_AT_ONCE):
        last = due[-1]
        failed = await ctx.write_each(_expire, due) or failed
    if failed is not None:
        raise failed
    await ctx.write(_look_again)


def _expire(tx: Tx, *due: store.Unpaid) -> None:
    """Who is paying meanwhile is not hurried."""
    for each in due:
        order = present(tx, each.id)
        if order.status == "reserved" and (order.held_until_ms or 0) <= tx.now_ms:
            its = tx.resumed(each.traceparent, each.cause)
            step(its, order, "expired", "not paid in time", actor="order")


def _look_again(tx: Tx) -> None:
    """A look that comes upon nothing more goes in this very commit: nobody may still rely on it."""
    first_ms = store.first_to_be_paid(tx)
    if first_ms is None:
        tx.undefer("expire", key="all")
    else:
        look_at(tx, first_ms)
