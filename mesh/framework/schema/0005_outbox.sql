-- The newest row of the outbox is its head, and stays; beside each event, up to where the bus was known
-- to have them when it was told.
ALTER TABLE outbox ADD COLUMN acked INTEGER NOT NULL DEFAULT 0;
UPDATE outbox SET acked = (SELECT acked FROM mlp_head) WHERE seq = (SELECT seq FROM mlp_head);

DROP TABLE mlp_head;
CREATE VIEW mlp_head AS
SELECT epoch, seq, hash, acked FROM outbox WHERE seq = (SELECT max(seq) FROM outbox)
UNION ALL
SELECT 0, 0, zeroblob(16), 0 WHERE NOT EXISTS (SELECT 1 FROM outbox);
