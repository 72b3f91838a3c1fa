-- What every service stores beside its own tables.

-- Producer: the outbox is the log. Numbers are given in the business transaction.
CREATE TABLE mlp_epoch (
    epoch INTEGER PRIMARY KEY,
    base INTEGER NOT NULL,
    base_hash BLOB NOT NULL,
    nonce BLOB NOT NULL
) STRICT;

CREATE TABLE mlp_head (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    hash BLOB NOT NULL
) STRICT;

CREATE TABLE outbox (
    seq INTEGER PRIMARY KEY,
    epoch INTEGER NOT NULL,
    prev_epoch INTEGER NOT NULL,
    prev_hash BLOB NOT NULL,
    hash BLOB NOT NULL,
    id BLOB NOT NULL UNIQUE,
    type TEXT NOT NULL,
    key TEXT NOT NULL,
    ts_ms INTEGER NOT NULL,
    trace BLOB NOT NULL,
    body BLOB NOT NULL
) STRICT;

INSERT INTO mlp_head (one, epoch, seq, hash) VALUES (1, 0, 0, zeroblob(16));

-- Consumer: the cursor moves in the transaction of the effect.
CREATE TABLE mlp_cursor (
    stream TEXT PRIMARY KEY,
    epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    hash BLOB NOT NULL,
    known_epoch INTEGER NOT NULL,
    known_base INTEGER NOT NULL,
    crash_attempts INTEGER NOT NULL DEFAULT 0,
    state TEXT NOT NULL DEFAULT 'live'
) STRICT, WITHOUT ROWID;

CREATE TABLE mlp_parked (
    stream TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    id BLOB NOT NULL,
    type TEXT NOT NULL,
    body BLOB NOT NULL,
    error TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    parked_ms INTEGER NOT NULL,
    PRIMARY KEY (stream, epoch, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE mlp_diverged (
    stream TEXT NOT NULL,
    from_epoch INTEGER NOT NULL,
    from_seq INTEGER NOT NULL,
    to_seq INTEGER NOT NULL,
    new_epoch INTEGER NOT NULL,
    noted_ms INTEGER NOT NULL,
    resolved_ms INTEGER
) STRICT;

-- Work left for after a commit. `dated` work waits for a business date and does not count as unrest.
CREATE TABLE deferred (
    action TEXT NOT NULL,
    key TEXT NOT NULL,
    args BLOB NOT NULL,
    due_ms INTEGER NOT NULL,
    dated INTEGER NOT NULL CHECK (dated IN (0, 1)),
    generation INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    error TEXT,
    traceparent TEXT NOT NULL,
    cause TEXT NOT NULL,
    PRIMARY KEY (action, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX deferred_by_due ON deferred (due_ms);

-- Idempotency keys: `entity` is fixed by the first write, `answer` by the last.
CREATE TABLE request (
    caller TEXT NOT NULL,
    route TEXT NOT NULL,
    key TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    entity TEXT NOT NULL,
    status INTEGER,
    answer BLOB,
    created_ms INTEGER NOT NULL,
    PRIMARY KEY (caller, route, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX request_by_age ON request (created_ms);

-- The last key set of auth, so that tokens verify while auth is away.
CREATE TABLE key_set (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    document BLOB NOT NULL,
    fetched_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE seeded (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    at_ms INTEGER NOT NULL
) STRICT;
