"""What must always hold of order's data: queries whose rows are the offenders, for `mesh verify`."""

from __future__ import annotations

from mesh.services.order.model import MOVES

SUMS_HOLD = """
SELECT o.id, 'costs ' || o.subtotal_minor || ', its lines ' || coalesce(l.cost, 'nothing')
FROM orders o LEFT JOIN (
    SELECT order_id, sum(quantity * unit_price_minor) AS cost FROM lines GROUP BY order_id
) l ON l.order_id = o.id
WHERE o.subtotal_minor IS NOT NULL AND o.subtotal_minor IS NOT l.cost
"""

MONEY_HOLDS = """
SELECT o.id, o.status || ', kept ' || coalesce(p.kept, 0) || ' of ' || coalesce(o.total_minor, 0)
FROM orders o LEFT JOIN (
    SELECT order_id, sum(CASE kind WHEN 'capture' THEN amount_minor ELSE -amount_minor END) AS kept
    FROM payments WHERE state = 'succeeded' GROUP BY order_id
) p ON p.order_id = o.id
WHERE coalesce(p.kept, 0) <> CASE WHEN o.status IN ('paid', 'shipped', 'delivered')
                                  THEN o.total_minor ELSE 0 END
  AND NOT EXISTS (SELECT 1 FROM deferred WHERE action = 'refund' AND key = o.id)
"""

QUEUE_HOLDS = """
SELECT o.id, o.status || CASE WHEN b.order_id IS NULL THEN ', does not wait for ' ELSE ', waits for ' END
    || l.product_id
FROM orders o JOIN lines l ON l.order_id = o.id
LEFT JOIN backorders b ON b.product_id = l.product_id AND b.order_id = l.order_id
WHERE (o.status = 'backordered') <> (b.order_id IS NOT NULL)
"""

HISTORY_CONTIGUOUS = """
SELECT o.id, 'version ' || o.version || ', ' || count(h.version) || ' steps up to '
    || coalesce(max(h.version), 0)
FROM orders o LEFT JOIN history h ON h.order_id = o.id
GROUP BY o.id HAVING count(h.version) <> o.version OR coalesce(max(h.version), 0) <> o.version
UNION ALL
SELECT DISTINCT order_id, 'has a history, and is not there' FROM history
WHERE order_id NOT IN (SELECT id FROM orders)
"""

STEPS_ALLOWED = f"""
SELECT h.order_id, 'step ' || h.version || ': ' || coalesce(nullif(h.old, ''), 'nothing') || ' to '
    || h.new || coalesce(', and it is ' || nullif(o.status, h.new), '')
FROM history h
LEFT JOIN history b ON b.order_id = h.order_id AND b.version = h.version - 1
LEFT JOIN orders o ON o.id = h.order_id AND o.version = h.version
WHERE h.old || '>' || h.new NOT IN ({", ".join(f"'{row.source}>{row.target}'" for row in MOVES.rows)})
   OR h.old <> coalesce(b.new, '') OR o.status <> h.new
"""  # noqa: S608  the states are our own

TOLD = """
WITH since AS (SELECT coalesce((
    SELECT CASE WHEN seq = 1 THEN -1 ELSE ts_ms END FROM outbox ORDER BY seq LIMIT 1), -1) AS ms),
told AS (
    SELECT key, json_extract(CAST(body AS TEXT), '$.version') AS version FROM outbox, since
    WHERE type = 'order.status_changed' AND ts_ms > since.ms
)
SELECT h.order_id, count(*) || ' steps, ' || coalesce(max(o.told), 0) || ' told'
    || CASE WHEN max(o.told) <> max(o.versions) THEN ', some again' ELSE '' END
FROM since, history h
LEFT JOIN (
    SELECT key, count(*) AS told, count(DISTINCT version) AS versions, max(version) AS last
    FROM told GROUP BY key
) o ON o.key = h.order_id
WHERE h.at_ms > since.ms
GROUP BY h.order_id
HAVING count(*) <> coalesce(max(o.told), 0) OR max(o.versions) <> max(o.told)
    OR max(h.version) <> max(o.last)
UNION ALL
SELECT key, count(*) || ' steps told, and it is not there' FROM told
WHERE key NOT IN (SELECT id FROM orders) GROUP BY key
"""
"""Of what is younger than the oldest event still kept: old events go once the bus has them."""

KEYED = """
SELECT id, 'no key led to it' FROM orders WHERE created_ms > (
    SELECT created_ms FROM request
    WHERE created_ms <= (SELECT created_ms FROM request ORDER BY n DESC LIMIT 1) ORDER BY n LIMIT 1)
  AND id NOT IN (SELECT entity FROM request WHERE route = 'create')
  AND user_id NOT IN (SELECT user_id FROM erased)
"""
"""Of what is younger than the first key still kept: keys go after a day, or with who was erased. They go
in the order of their coming: where a clock was put back, not by their dates."""

ANSWERED = """
SELECT o.id, 'of user:' || o.user_id || ', answered to ' || r.caller
FROM request r JOIN orders o ON o.id = r.entity
WHERE r.route = 'create' AND r.caller <> 'user:' || o.user_id
"""

DRIVEN_ON = """
SELECT id, status FROM orders
WHERE (status = 'pending' AND id NOT IN (SELECT key FROM deferred WHERE action = 'decide'))
   OR (status = 'paying' AND id NOT IN (SELECT key FROM deferred WHERE action = 'capture'))
"""

UNPAID_END = """
SELECT id, 'nobody looks at it when its time is over' FROM orders o
WHERE status = 'reserved' AND NOT EXISTS (
    SELECT 1 FROM deferred
    WHERE action = 'expire' AND (due_ms <= o.held_until_ms OR attempts > 0))
"""

HOLDS_AGREE = """
SELECT o.id, o.status || ', its hold ' || coalesce(h.state, 'none')
FROM orders o LEFT JOIN product.holds h ON h.order_id = o.id
WHERE o.status <> 'pending'
  AND coalesce(h.state, 'none') NOT IN (SELECT value FROM json_each(CASE
    WHEN o.status IN ('reserved', 'paying') THEN '["held", "committed"]'
    WHEN o.status = 'paid' THEN '["committed"]'
    WHEN o.status IN ('shipped', 'delivered') THEN '["shipped"]'
    ELSE '["none", "released", "expired"]' END))
  AND o.id NOT IN (SELECT key FROM deferred WHERE NOT dated)
  AND o.id NOT IN (SELECT e.key FROM product.outbox e JOIN mlp_cursor c ON c.stream = 'product'
                   WHERE e.type = 'product.hold_expired' AND e.seq > c.seq)
  AND NOT (o.status = 'backordered' AND EXISTS (
    SELECT 1 FROM deferred d JOIN lines l ON l.order_id = o.id
    WHERE d.action = 'wake' AND substr(d.key, 1, length(l.product_id)) = l.product_id))
UNION ALL
SELECT order_id, 'held without an order' FROM product.holds
WHERE state IN ('held', 'committed', 'shipped') AND order_id NOT IN (SELECT id FROM orders)
  AND order_id NOT IN (SELECT key FROM deferred WHERE action IN ('disown', 'release'))
  AND order_id NOT IN (SELECT json_extract(CAST(e.body AS TEXT), '$.ref')
                       FROM product.outbox e JOIN mlp_cursor c ON c.stream = 'product'
                       WHERE e.type = 'product.stock_changed' AND e.seq > c.seq)
"""
"""What is still to be done for an order, or to be heard, is under way: deferred, told, waking. So is an
order whose stock is held already and that is about to be written down."""

HELD_LINES_AGREE = """
SELECT order_id, quantity || ' of ' || product_id || ' on one side only' FROM (
    SELECT order_id, product_id, quantity FROM product.hold_lines
    UNION ALL SELECT order_id, product_id, quantity FROM lines
) WHERE order_id IN (SELECT order_id FROM product.holds WHERE state IN ('held', 'committed'))
  AND order_id IN (SELECT id FROM orders)
GROUP BY order_id, product_id, quantity HAVING count(*) <> 2
"""

STOCK_SEEN_AGREES = """
WITH told AS (
    SELECT e.key AS id, max(json_extract(CAST(e.body AS TEXT), '$.stock_version')) AS version
    FROM product.outbox e JOIN mlp_cursor c ON c.stream = 'product' AND e.seq <= c.seq
    WHERE e.type = 'product.stock_changed' GROUP BY e.key
)
SELECT t.id, 'told ' || coalesce(l.on_hand - l.reserved, 'nothing') || ' at version ' || t.version
    || ', known ' || coalesce(s.available || ' at ' || s.stock_version, 'none')
FROM told t LEFT JOIN stock_seen s ON s.product_id = t.id
LEFT JOIN product.ledger l ON l.product_id = t.id AND l.stock_version = t.version
WHERE (s.stock_version IS NOT t.version OR s.available <> l.on_hand - l.reserved)
  AND t.id NOT IN (SELECT key FROM mlp_parked WHERE stream = 'product')
  AND NOT EXISTS (SELECT 1 FROM mlp_diverged WHERE stream = 'product' AND resolved_ms IS NULL)
"""
"""What is parked is not known yet; after a restore the versions are told anew."""

NONE_ASLEEP = """
SELECT o.id FROM orders o
WHERE o.status = 'backordered' AND NOT EXISTS (
    SELECT 1 FROM lines l LEFT JOIN product.products p ON p.id = l.product_id
    WHERE l.order_id = o.id AND coalesce(p.on_hand - p.reserved, 0) < l.quantity)
  AND NOT EXISTS (SELECT 1 FROM deferred WHERE action = 'wake')
  AND NOT EXISTS (
    SELECT 1 FROM product.outbox e JOIN mlp_cursor c ON c.stream = 'product' AND e.seq > c.seq
    JOIN lines l ON l.order_id = o.id AND l.product_id = e.key)
"""
