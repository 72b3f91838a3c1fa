-- One piece of work looks for all orders that were not paid in time, instead of one for each. What it
-- does for an order goes on with the trace of whoever left it reserved; empty in any other status.
ALTER TABLE orders ADD COLUMN traceparent TEXT NOT NULL DEFAULT '';
UPDATE orders SET traceparent = (
    SELECT traceparent FROM deferred WHERE action = 'expire' AND key = orders.id
)
WHERE status = 'reserved'
    AND id IN (SELECT key FROM deferred WHERE action = 'expire');
DELETE FROM deferred WHERE action = 'expire';
INSERT INTO deferred (action, key, args, due_ms, dated, generation, traceparent, cause)
SELECT 'expire', 'all', CAST('{}' AS BLOB), min(held_until_ms), 1, 1, '', ''
FROM orders WHERE status = 'reserved' HAVING count(*) > 0;

-- A CHECK says OR, the commonest first: SQLite builds a table for each IN of more than two values, each
-- time that a row is written. The column is replaced, not its table: others refer to that.
ALTER TABLE orders ADD COLUMN stands TEXT NOT NULL DEFAULT 'pending' CHECK (
    stands = 'reserved' OR stands = 'paying' OR stands = 'paid' OR stands = 'shipped'
    OR stands = 'delivered' OR stands = 'backordered' OR stands = 'pending' OR stands = 'expired'
    OR stands = 'cancelled' OR stands = 'rejected' OR stands = 'returned'
);
UPDATE orders SET stands = status;
ALTER TABLE orders DROP COLUMN status;
ALTER TABLE orders RENAME COLUMN stands TO status;

-- Of all orders there ever were few wait to be paid: by when that ends.
CREATE INDEX orders_to_be_paid ON orders (held_until_ms) WHERE status = 'reserved';

CREATE TABLE payments_anew (
    id TEXT PRIMARY KEY,
    order_id TEXT NOT NULL REFERENCES orders (id),
    kind TEXT NOT NULL CHECK (kind = 'capture' OR kind = 'refund'),
    attempt TEXT NOT NULL UNIQUE,
    amount_minor INTEGER NOT NULL CHECK (amount_minor > 0),
    state TEXT NOT NULL CHECK (
        state = 'started' OR state = 'succeeded' OR state = 'declined' OR state = 'abandoned'
    ),
    token TEXT,
    brand TEXT,
    last4 TEXT,
    at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO payments_anew
SELECT id, order_id, kind, attempt, amount_minor, state, token, brand, last4, at_ms FROM payments;
DROP TABLE payments;
ALTER TABLE payments_anew RENAME TO payments;
CREATE INDEX payments_by_order ON payments (order_id);
CREATE UNIQUE INDEX one_capture_an_order ON payments (order_id)
    WHERE kind = 'capture' AND state = 'succeeded';
