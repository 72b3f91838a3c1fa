CREATE TABLE orders (
    id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN (
        'pending', 'backordered', 'reserved', 'paying', 'paid', 'shipped', 'delivered',
        'rejected', 'expired', 'cancelled', 'returned'
    )),
    reason TEXT NOT NULL,
    currency TEXT,
    subtotal_minor INTEGER CHECK (subtotal_minor >= 0),
    shipping_minor INTEGER CHECK (shipping_minor >= 0),
    total_minor INTEGER CHECK (total_minor = subtotal_minor + shipping_minor),
    on_shortage TEXT NOT NULL CHECK (on_shortage IN ('backorder', 'reject')),
    expected_total_minor INTEGER,
    hold_version INTEGER NOT NULL DEFAULT 0,
    held_until_ms INTEGER,
    created_ms INTEGER NOT NULL,
    version INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX orders_by_user ON orders (user_id, id);
CREATE INDEX orders_unsettled ON orders (status) WHERE status IN ('pending', 'paying');

CREATE TABLE lines (
    order_id TEXT NOT NULL REFERENCES orders (id),
    n INTEGER NOT NULL,
    product_id TEXT NOT NULL,
    sku TEXT,
    name TEXT,
    quantity INTEGER NOT NULL CHECK (quantity > 0),
    unit_price_minor INTEGER CHECK (unit_price_minor >= 0),
    PRIMARY KEY (order_id, n),
    UNIQUE (order_id, product_id)
) STRICT, WITHOUT ROWID;

-- Who waits for a product: kept with the status, since of all orders of a product few ever wait.
CREATE TABLE backorders (
    product_id TEXT NOT NULL,
    order_id TEXT NOT NULL REFERENCES orders (id),
    PRIMARY KEY (product_id, order_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE history (
    order_id TEXT NOT NULL REFERENCES orders (id),
    version INTEGER NOT NULL,
    old TEXT NOT NULL,
    new TEXT NOT NULL,
    reason TEXT NOT NULL,
    actor TEXT NOT NULL,
    cause TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (order_id, version)
) STRICT, WITHOUT ROWID;

CREATE TABLE shipments (
    order_id TEXT PRIMARY KEY REFERENCES orders (id),
    name TEXT NOT NULL,
    line1 TEXT NOT NULL,
    line2 TEXT,
    city TEXT NOT NULL,
    region TEXT,
    postcode TEXT NOT NULL,
    country TEXT NOT NULL,
    carrier TEXT,
    tracking TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE payments (
    id TEXT PRIMARY KEY,
    order_id TEXT NOT NULL REFERENCES orders (id),
    kind TEXT NOT NULL CHECK (kind IN ('capture', 'refund')),
    attempt TEXT NOT NULL UNIQUE,
    amount_minor INTEGER NOT NULL CHECK (amount_minor > 0),
    state TEXT NOT NULL CHECK (state IN ('started', 'succeeded', 'declined', 'abandoned')),
    token TEXT,
    brand TEXT,
    last4 TEXT,
    at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX payments_by_order ON payments (order_id);
CREATE UNIQUE INDEX one_capture_an_order ON payments (order_id)
    WHERE kind = 'capture' AND state = 'succeeded';

-- A replica of what product tells: good for waking backorders and for the version fence, not for selling.
CREATE TABLE stock_seen (
    product_id TEXT PRIMARY KEY,
    stock_version INTEGER NOT NULL,
    available INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE hold_lost (
    order_id TEXT PRIMARY KEY,
    version INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
