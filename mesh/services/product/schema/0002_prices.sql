-- The key's columns first: SQLite 3.40 reports false damage in a table WITHOUT ROWID that has others before.
CREATE TABLE prices_ordered (
    product_id TEXT NOT NULL REFERENCES products (id),
    from_ms INTEGER NOT NULL,
    price_minor INTEGER NOT NULL CHECK (price_minor >= 0),
    PRIMARY KEY (product_id, from_ms)
) STRICT, WITHOUT ROWID;

INSERT INTO prices_ordered (product_id, from_ms, price_minor)
SELECT product_id, from_ms, price_minor FROM prices;

DROP TABLE prices;

ALTER TABLE prices_ordered RENAME TO prices;
