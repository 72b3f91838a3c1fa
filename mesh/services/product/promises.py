"""What must always hold of product's data: queries whose rows are the offenders, for `mesh verify`."""

from __future__ import annotations

NO_OVERSELL = """
SELECT id, reserved || ' reserved of ' || on_hand || ' on hand' FROM products
WHERE reserved < 0 OR reserved > on_hand
"""

CONSERVED = """
SELECT p.id, 'on hand ' || p.on_hand || ', its ledger says ' || coalesce(l.on_hand, 0)
    || '; reserved ' || p.reserved || ', its ledger says ' || coalesce(l.reserved, 0)
    || ', open holds ' || coalesce(h.quantity, 0)
FROM products p
LEFT JOIN (
    SELECT product_id, sum(d_on_hand) AS on_hand, sum(d_reserved) AS reserved
    FROM ledger GROUP BY product_id
) l ON l.product_id = p.id
LEFT JOIN (
    SELECT product_id, sum(quantity) AS quantity FROM hold_lines
    WHERE state IN ('held', 'committed') GROUP BY product_id
) h ON h.product_id = p.id
WHERE p.on_hand <> coalesce(l.on_hand, 0)
   OR p.reserved <> coalesce(l.reserved, 0)
   OR p.reserved <> coalesce(h.quantity, 0)
"""

HOLD_IS_ONE = """
SELECT order_id, count(DISTINCT state) || ' states, ' || count(DISTINCT version) || ' versions, '
    || count(DISTINCT expires_at_ms) || ' dates'
FROM hold_lines GROUP BY order_id
HAVING count(DISTINCT state) > 1 OR count(DISTINCT version) > 1 OR count(DISTINCT expires_at_ms) > 1
"""

HOLDS_END = """
SELECT order_id, 'nobody looks at it when its time is over' FROM hold_lines l
WHERE state = 'held' AND NOT EXISTS (
    SELECT 1 FROM deferred
    WHERE action = 'expire-holds' AND (due_ms <= l.expires_at_ms OR attempts > 0))
"""

TOLD = """
WITH since AS (SELECT coalesce((
    SELECT CASE WHEN seq = 1 THEN -1 ELSE ts_ms END FROM outbox ORDER BY seq LIMIT 1), -1) AS ms),
told AS (
    SELECT key, json_extract(CAST(body AS TEXT), '$.stock_version') AS version FROM outbox, since
    WHERE type = 'product.stock_changed' AND ts_ms > since.ms
)
SELECT l.product_id, count(*) || ' in the ledger, ' || coalesce(max(o.told), 0) || ' told'
    || CASE WHEN max(o.told) <> max(o.versions) THEN ', some again' ELSE '' END
FROM since, ledger l
LEFT JOIN (
    SELECT key, count(*) AS told, count(DISTINCT version) AS versions, max(version) AS last
    FROM told GROUP BY key
) o ON o.key = l.product_id
WHERE l.at_ms > since.ms
GROUP BY l.product_id
HAVING count(*) <> coalesce(max(o.told), 0) OR max(o.versions) <> max(o.told)
    OR max(l.stock_version) <> max(o.last)
UNION ALL
SELECT key, count(*) || ' changes told, and it is not there' FROM told
WHERE key NOT IN (SELECT id FROM products) GROUP BY key
"""
"""Of what is younger than the oldest event still kept: old events go once the bus has them."""
