-- Each tree that an order is written to costs it a page of every commit: a table, an index, a UNIQUE.

-- Where an order goes is part of it: name to country are empty once that was forgotten.
ALTER TABLE orders ADD COLUMN name TEXT NOT NULL DEFAULT '';
ALTER TABLE orders ADD COLUMN line1 TEXT NOT NULL DEFAULT '';
ALTER TABLE orders ADD COLUMN line2 TEXT;
ALTER TABLE orders ADD COLUMN city TEXT NOT NULL DEFAULT '';
ALTER TABLE orders ADD COLUMN region TEXT;
ALTER TABLE orders ADD COLUMN postcode TEXT NOT NULL DEFAULT '';
ALTER TABLE orders ADD COLUMN country TEXT NOT NULL DEFAULT '';
ALTER TABLE orders ADD COLUMN carrier TEXT;
ALTER TABLE orders ADD COLUMN tracking TEXT;
ALTER TABLE orders ADD COLUMN forgotten INTEGER NOT NULL DEFAULT 0 CHECK (forgotten IN (0, 1));
UPDATE orders SET
    (name, line1, line2, city, region, postcode, country, carrier, tracking, forgotten) = (
        SELECT name, line1, line2, city, region, postcode, country, carrier, tracking, forgotten
        FROM shipments WHERE order_id = orders.id
    )
WHERE id IN (SELECT order_id FROM shipments);
DROP TABLE shipments;

-- A product is in an order once; `n` is only the order in which its lines are shown.
CREATE TABLE lines_by_product (
    order_id TEXT NOT NULL REFERENCES orders (id),
    product_id TEXT NOT NULL,
    n INTEGER NOT NULL,
    sku TEXT,
    name TEXT,
    quantity INTEGER NOT NULL CHECK (quantity > 0),
    unit_price_minor INTEGER CHECK (unit_price_minor >= 0),
    PRIMARY KEY (order_id, product_id)
) STRICT, WITHOUT ROWID;
INSERT INTO lines_by_product (order_id, product_id, n, sku, name, quantity, unit_price_minor)
SELECT order_id, product_id, n, sku, name, quantity, unit_price_minor FROM lines;
DROP TABLE lines;
ALTER TABLE lines_by_product RENAME TO lines;

-- What is pending or paying is owed a move by deferred work, and counted there.
DROP INDEX orders_unsettled;
