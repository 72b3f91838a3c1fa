"""What order is asked beyond placing, paying and fulfilling: to show orders, and to explain one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh.framework import iso
from mesh.services.order import messages, steps, store

if TYPE_CHECKING:
    from mesh.framework import Context


async def get(ctx: Context, request: messages.OrderRef) -> messages.OrderView:
    """Show an order to its owner or to staff."""
    return steps.show(ctx.read, steps.visible(ctx, request.id))


async def list_orders(ctx: Context, request: messages.ListOrders) -> messages.OrderPage:
    """Show a page of one's own orders; staff see everybody's, or those of one `user_id`."""
    wanted = request.user_id
    if not ctx.caller.has("staff"):
        if wanted not in {None, ctx.caller.id}:
            return messages.OrderPage([], None)
        wanted = ctx.caller.id
    sql, params = store.page(wanted, request)
    if request.status is None:
        rows = ctx.read.all(store.OrderRow, sql, **params)
    else:  # few may match, or none
        rows = await ctx.scan(store.OrderRow, sql, **params)
    items = [steps.show(ctx.read, row) for row in rows[: request.page_size]]
    more = len(rows) > len(items)
    return messages.OrderPage(items, items[-1].id if more else None)


async def history(ctx: Context, request: messages.OrderRef) -> messages.History:
    """Show how an order came to be where it is."""
    steps.visible(ctx, request.id)
    return messages.History(
        [
            messages.Step(
                row.version, row.old, row.new, row.reason, row.actor, row.cause, iso(row.at_ms)
            )
            for row in store.history(ctx.read, request.id)
        ]
    )
