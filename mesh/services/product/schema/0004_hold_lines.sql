-- A hold is its lines: each says what holds of all of them, and from which request they are, so that a
-- hold of one line is one row of one tree. A CHECK says OR: SQLite builds a table for each IN of more
-- than two values, each time that a row is written.
CREATE TABLE hold_lines_alone (
    order_id TEXT NOT NULL,
    product_id TEXT NOT NULL REFERENCES products (id),
    quantity INTEGER NOT NULL CHECK (quantity > 0),
    unit_price_minor INTEGER NOT NULL CHECK (unit_price_minor >= 0),
    state TEXT NOT NULL CHECK (
        state = 'held' OR state = 'committed' OR state = 'shipped' OR state = 'released'
        OR state = 'expired'
    ),
    version INTEGER NOT NULL,
    expires_at_ms INTEGER NOT NULL,
    traceparent TEXT NOT NULL,
    cause TEXT NOT NULL,
    PRIMARY KEY (order_id, product_id)
) STRICT, WITHOUT ROWID;
INSERT INTO hold_lines_alone
SELECT l.order_id, l.product_id, l.quantity, l.unit_price_minor, h.state, h.version, h.expires_at_ms,
    coalesce(d.traceparent, ''), coalesce(d.cause, '')
FROM hold_lines l JOIN holds h ON h.order_id = l.order_id
LEFT JOIN deferred d ON d.action = 'expire-hold' AND d.key = l.order_id;

-- Orders that were released before they held anything: none is to hold anything later.
CREATE TABLE never_held (order_id TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
INSERT INTO never_held
SELECT order_id FROM holds WHERE order_id NOT IN (SELECT order_id FROM hold_lines);

-- One piece of work looks for all holds that are over, instead of one for each.
INSERT INTO deferred (action, key, args, due_ms, dated, generation, traceparent, cause)
SELECT 'expire-holds', 'all', CAST('{}' AS BLOB), min(expires_at_ms), 1, 1, '', ''
FROM holds WHERE state = 'held' HAVING count(*) > 0;
DELETE FROM deferred WHERE action = 'expire-hold';

DROP TABLE hold_lines;
DROP TABLE holds;
ALTER TABLE hold_lines_alone RENAME TO hold_lines;
-- Of all holds there ever were few are open: by when they end, and for whoever asks who holds a product.
CREATE INDEX hold_lines_open ON hold_lines (state, expires_at_ms) WHERE state IN ('held', 'committed');
-- As other services' promises ask for it.
CREATE VIEW holds AS
SELECT DISTINCT order_id, state, version, expires_at_ms FROM hold_lines
UNION ALL SELECT order_id, 'released', 0, 0 FROM never_held;
