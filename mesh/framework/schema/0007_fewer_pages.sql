-- A commit writes each page that it has changed: a tree less is a page less, rows at the end of a tree
-- share one, and a long row in the middle has its neighbours moved.

-- Keys come in any order, what is kept for them is long: so that lies in the order of its coming, where it
-- also grows old, and only the keys are sorted.
CREATE TABLE request_kept (
    n INTEGER PRIMARY KEY,
    caller TEXT NOT NULL,
    route TEXT NOT NULL,
    key TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    entity TEXT NOT NULL,
    status INTEGER,
    answer BLOB,
    created_ms INTEGER NOT NULL
) STRICT;
INSERT INTO request_kept (caller, route, key, fingerprint, entity, status, answer, created_ms)
SELECT caller, route, key, fingerprint, entity, status, answer, created_ms FROM request ORDER BY created_ms;
DROP TABLE request;
ALTER TABLE request_kept RENAME TO request;
CREATE UNIQUE INDEX request_by_key ON request (caller, route, key);

-- No event is looked for by its id here.
DROP VIEW mlp_head;
CREATE TABLE outbox_kept (
    seq INTEGER PRIMARY KEY,
    epoch INTEGER NOT NULL,
    prev_epoch INTEGER NOT NULL,
    prev_hash BLOB NOT NULL,
    hash BLOB NOT NULL,
    id BLOB NOT NULL,
    type TEXT NOT NULL,
    key TEXT NOT NULL,
    ts_ms INTEGER NOT NULL,
    trace BLOB NOT NULL,
    body BLOB NOT NULL,
    acked INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO outbox_kept (seq, epoch, prev_epoch, prev_hash, hash, id, type, key, ts_ms, trace, body, acked)
SELECT seq, epoch, prev_epoch, prev_hash, hash, id, type, key, ts_ms, trace, body, acked FROM outbox;
DROP TABLE outbox;
ALTER TABLE outbox_kept RENAME TO outbox;
CREATE VIEW mlp_head AS
SELECT epoch, seq, hash, acked FROM outbox WHERE seq = (SELECT max(seq) FROM outbox)
UNION ALL
SELECT 0, 0, zeroblob(16), 0 WHERE NOT EXISTS (SELECT 1 FROM outbox);
