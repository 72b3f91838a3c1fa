CREATE TABLE products (
    id TEXT PRIMARY KEY,
    sku TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    price_minor INTEGER NOT NULL CHECK (price_minor >= 0),
    currency TEXT NOT NULL CHECK (length(currency) = 3),
    on_hand INTEGER NOT NULL DEFAULT 0 CHECK (on_hand >= 0),
    reserved INTEGER NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    low_water INTEGER NOT NULL DEFAULT 0 CHECK (low_water >= 0),
    status TEXT NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'discontinued')),
    version INTEGER NOT NULL DEFAULT 1,
    stock_version INTEGER NOT NULL DEFAULT 0,
    CHECK (reserved <= on_hand)
) STRICT, WITHOUT ROWID;

CREATE TABLE prices (
    product_id TEXT NOT NULL REFERENCES products (id),
    price_minor INTEGER NOT NULL CHECK (price_minor >= 0),
    from_ms INTEGER NOT NULL,
    PRIMARY KEY (product_id, from_ms)
) STRICT, WITHOUT ROWID;

CREATE TABLE holds (
    order_id TEXT PRIMARY KEY,
    state TEXT NOT NULL CHECK (state IN ('held', 'committed', 'shipped', 'released', 'expired')),
    version INTEGER NOT NULL,
    expires_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE hold_lines (
    order_id TEXT NOT NULL REFERENCES holds (order_id),
    product_id TEXT NOT NULL REFERENCES products (id),
    quantity INTEGER NOT NULL CHECK (quantity > 0),
    unit_price_minor INTEGER NOT NULL CHECK (unit_price_minor >= 0),
    PRIMARY KEY (order_id, product_id)
) STRICT, WITHOUT ROWID;

-- Append-only: the stock of a product is the sum of its rows.
CREATE TABLE ledger (
    product_id TEXT NOT NULL REFERENCES products (id),
    stock_version INTEGER NOT NULL,
    d_on_hand INTEGER NOT NULL,
    d_reserved INTEGER NOT NULL,
    on_hand INTEGER NOT NULL,
    reserved INTEGER NOT NULL,
    reason TEXT NOT NULL,
    ref TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (product_id, stock_version)
) STRICT, WITHOUT ROWID;
