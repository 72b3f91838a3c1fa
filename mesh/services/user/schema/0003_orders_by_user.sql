-- One tree for each order heard of instead of three: an order is its user's for good.
CREATE TABLE orders_by_user (
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    order_id TEXT NOT NULL,
    status TEXT NOT NULL,
    version INTEGER NOT NULL,
    total_minor INTEGER,
    currency TEXT,
    heard_at_ms INTEGER NOT NULL,
    PRIMARY KEY (user_id, order_id)
) STRICT, WITHOUT ROWID;

INSERT INTO orders_by_user
    (user_id, order_id, status, version, total_minor, currency, heard_at_ms)
SELECT user_id, order_id, status, version, total_minor, currency, heard_at_ms FROM orders_seen;

DROP TABLE orders_seen;

ALTER TABLE orders_by_user RENAME TO orders_seen;
