"""Product, broken: it looks whether there is enough, and takes it a moment later unasked."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

from mesh.services.product import holding, model, store
from mesh.services.product.service import service as sound

LATE_S = 0.5

check = holding._hold


def _look(tx, order_id: str, wanted: dict[str, int]) -> bool:
    """Whether there is enough for a new hold."""
    return store.get_hold(tx, order_id) is None and not model.shortages(holding.quoted(tx, wanted))


async def hold(ctx, request):
    """Hold stock for an order, all of it or nothing."""
    wanted = model.merged(request.lines)
    if not await ctx.write(_look, request.order_id, wanted):
        return await ctx.write(check, request.order_id, wanted)
    await ctx.sleep(LATE_S)
    return await ctx.write(_take, request.order_id, wanted)


def _take(tx, order_id: str, wanted: dict[str, int]):
    """Take it, whatever is there by now; on the writer's thread, so nobody else sees the change."""
    kept = holding.model, store.move_stock
    holding.model = SimpleNamespace(**vars(model) | {"shortages": lambda _: []})
    store.move_stock = _move
    try:
        return check(tx, order_id, wanted)
    finally:
        holding.model, store.move_stock = kept


def _move(tx, product_id: str, d_on_hand: int, d_reserved: int) -> bool:
    changed = tx.execute(
        "UPDATE products SET on_hand = on_hand + :d_on_hand, reserved = reserved + :d_reserved,"
        " stock_version = stock_version + 1 WHERE id = :id",
        id=product_id,
        d_on_hand=d_on_hand,
        d_reserved=d_reserved,
    )
    return changed == 1


service = replace(
    sound,
    operations=tuple(
        replace(row, action=hold) if row.name == "hold" else row for row in sound.operations
    ),
)
