"""Counts the steps of every order, and promises to have counted each: a sound service."""

from __future__ import annotations

from msgspec import Struct

from mesh.framework import ANYONE, Agreement, Context, Listener, Operation, Service, Tx

COUNTED = """
SELECT h.order_id, count(*) || ' steps, counted ' || coalesce(t.steps, 0)
FROM "order".history h LEFT JOIN tracks t ON t.order_id = h.order_id
WHERE h.order_id NOT IN (
    SELECT e.key FROM "order".outbox e JOIN mlp_cursor c ON c.stream = 'order' AND e.seq > c.seq)
GROUP BY h.order_id HAVING count(*) <> coalesce(t.steps, 0)
"""


class StatusChanged(Struct, frozen=True):
    """What is read of `order.status_changed`."""

    order_id: str


class Track(Struct, frozen=True, forbid_unknown_fields=True):
    """Which order."""

    order_id: str


class Tracked(Struct, frozen=True):
    """How many steps were heard of."""

    steps: int


async def track(ctx: Context, request: Track) -> Tracked:
    """Say how many steps of an order were heard of."""
    sql = "SELECT steps FROM tracks WHERE order_id = :order_id"
    return Tracked(ctx.read.one(int, sql, order_id=request.order_id) or 0)


def on_status_changed(tx: Tx, event: StatusChanged) -> None:
    """Count it."""
    tx.execute(
        "INSERT INTO tracks (order_id, steps) VALUES (:order_id, 1)"
        " ON CONFLICT (order_id) DO UPDATE SET steps = steps + 1",
        order_id=event.order_id,
    )


service = Service(
    name="tracker",
    summary="Counts the steps of every order.",
    operations=(
        Operation(
            "track",
            "GET /tracks/{order_id}",
            track,
            Track,
            Tracked,
            allow=ANYONE,
            example=Track("ord_1"),
        ),
    ),
    listeners=(Listener("order.status_changed", on_status_changed, StatusChanged),),
    agreements=(
        Agreement("steps-counted", "every step is counted once", COUNTED, beside=("order",)),
    ),
)
