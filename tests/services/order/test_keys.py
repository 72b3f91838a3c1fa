"""Each order is the effect of a key: what is asked of keys that are kept, while others go."""

from __future__ import annotations

from mesh.framework import idempotency
from tests.services.order.support import create, offenders, plant

HALF = idempotency.SWEEP_MAX * 3 // 4


async def test_no_order_is_missed_where_keys_go_past_a_clock_that_was_put_back(
    order, product, wall
):
    await plant(product, 2 * HALF)
    began_ms = wall.now_ms
    for key in range(2 * HALF):
        if key == HALF:
            wall.now_ms -= 1000
        await create(order, 1, key=str(key))
        wall.now_ms += 10
    wall.now_ms = began_ms + idempotency.KEEP_MS + 1200
    await idempotency.sweep(order.database)
    assert order.database.read.one(int, "SELECT count(*) FROM request") not in {0, 2 * HALF}
    assert [row for row in offenders(order) if "one key" in row[0]] == []


async def test_order_without_a_key_is_missed_also_behind_keys_of_a_clock_that_was_ahead(
    order, product, wall
):
    await plant(product, 3)
    wall.now_ms += 365 * idempotency.KEEP_MS
    await create(order, 1, key="ahead")
    wall.now_ms -= 365 * idempotency.KEEP_MS
    lost = []
    for key in "abc":
        lost.append(await create(order, 1, key=key))
        wall.now_ms += 10
    forget = "DELETE FROM request WHERE key = 'b'"
    await order.transact(lambda tx: tx.execute(forget))
    found = [row for row in offenders(order) if "one key" in row[0]]
    assert found == [("each order is the effect of one key", lost[1].id)]
