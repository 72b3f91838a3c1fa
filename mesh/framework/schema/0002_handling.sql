-- What is known of events that cannot be applied, and of events the bus has not taken yet.

-- The event that the process died on, and how often it did in a row: crash_attempts counts it.
ALTER TABLE mlp_cursor ADD COLUMN attempt_epoch INTEGER NOT NULL DEFAULT 0;
ALTER TABLE mlp_cursor ADD COLUMN attempt_seq INTEGER NOT NULL DEFAULT 0;

-- Up to here the bus has the outbox, as of the last event told: it bounds what may wait for the bus.
ALTER TABLE mlp_head ADD COLUMN acked INTEGER NOT NULL DEFAULT 0;
UPDATE mlp_head SET acked = seq;

-- Nothing has been parked before this file: the whole event is kept, so that it can be offered again.
DROP TABLE mlp_parked;
CREATE TABLE mlp_parked (
    stream TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    id BLOB NOT NULL UNIQUE,
    type TEXT NOT NULL,
    key TEXT NOT NULL,
    ts_ms INTEGER NOT NULL,
    trace BLOB NOT NULL,
    body BLOB NOT NULL,
    handler TEXT NOT NULL,
    error_class TEXT NOT NULL,
    error TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    parked_ms INTEGER NOT NULL,
    PRIMARY KEY (stream, epoch, seq)
) STRICT, WITHOUT ROWID;
