-- One login and password a subject. `login` is opaque here: who asks has brought it into one form.
CREATE TABLE credentials (
    subject TEXT NOT NULL PRIMARY KEY,
    login TEXT NOT NULL UNIQUE,
    hash TEXT NOT NULL CHECK (hash LIKE '$argon2id$%'),
    changed_at_ms INTEGER NOT NULL,
    version INTEGER NOT NULL CHECK (version >= 1)
) STRICT;

-- Failed logins, also of logins that nobody has: both must look alike from outside.
CREATE TABLE attempts (
    login TEXT NOT NULL PRIMARY KEY,
    failures INTEGER NOT NULL CHECK (failures >= 1),
    locked_until_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX attempts_by_age ON attempts (locked_until_ms);

-- One row a refresh token. A family is the chain of one session's tokens, of which at most the
-- last can be used; its id is the session's. Spent ones stay, so that their reuse is noticed.
CREATE TABLE sessions (
    id TEXT NOT NULL PRIMARY KEY,
    subject TEXT NOT NULL,
    refresh_hash BLOB NOT NULL UNIQUE,
    family TEXT NOT NULL,
    expires_at_ms INTEGER NOT NULL,
    revoked_at_ms INTEGER
) STRICT;
CREATE UNIQUE INDEX sessions_one_live_token ON sessions (family) WHERE revoked_at_ms IS NULL;
CREATE INDEX sessions_live_by_subject ON sessions (subject, family) WHERE revoked_at_ms IS NULL;
CREATE INDEX sessions_by_expiry ON sessions (expires_at_ms);

-- The key without a retirement date signs; a retiring one is only published until its date.
CREATE TABLE signing_keys (
    kid TEXT NOT NULL PRIMARY KEY,
    private BLOB NOT NULL,
    public TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    retires_at_ms INTEGER
) STRICT;
CREATE UNIQUE INDEX signing_keys_one_signs ON signing_keys ((retires_at_ms IS NULL)) WHERE retires_at_ms IS NULL;
