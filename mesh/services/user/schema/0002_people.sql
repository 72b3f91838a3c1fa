-- Where to send things to.
CREATE TABLE addresses (
    id TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    line1 TEXT NOT NULL,
    line2 TEXT,
    city TEXT NOT NULL,
    region TEXT,
    postcode TEXT NOT NULL,
    country TEXT NOT NULL,
    added_at_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX addresses_by_user ON addresses (user_id, id);

-- What order has told of a user's orders: the newest status of each.
CREATE TABLE orders_seen (
    order_id TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    status TEXT NOT NULL,
    version INTEGER NOT NULL,
    total_minor INTEGER,
    currency TEXT,
    heard_at_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX orders_seen_by_user ON orders_seen (user_id, order_id);

-- E-mails that were asked for and taken, by where the question came from: a minute's worth.
CREATE TABLE probes (
    id TEXT NOT NULL PRIMARY KEY,
    source TEXT NOT NULL,
    at_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX probes_by_source ON probes (source, at_ms);
CREATE INDEX probes_by_age ON probes (at_ms);

-- Who may do what, by role.
CREATE INDEX grants_by_role ON grants (role, user_id);
