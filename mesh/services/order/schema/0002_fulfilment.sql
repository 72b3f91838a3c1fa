-- What more product tells: its price, and that it is sold no longer. `version` is the catalogue's.
ALTER TABLE stock_seen ADD COLUMN version INTEGER NOT NULL DEFAULT 0;
ALTER TABLE stock_seen ADD COLUMN price_minor INTEGER CHECK (price_minor >= 0);
ALTER TABLE stock_seen ADD COLUMN discontinued INTEGER NOT NULL DEFAULT 0 CHECK (discontinued IN (0, 1));

-- Whose address was forgotten: nothing of it is left but that it was.
ALTER TABLE shipments ADD COLUMN forgotten INTEGER NOT NULL DEFAULT 0 CHECK (forgotten IN (0, 1));
