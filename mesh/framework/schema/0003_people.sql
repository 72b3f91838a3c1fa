-- What is known of people whose rights have ended.

-- Sessions that ended before their time, while access tokens of them may still live.
CREATE TABLE revoked_session (
    id TEXT NOT NULL PRIMARY KEY,
    until_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX revoked_session_by_end ON revoked_session (until_ms);

-- Who was erased here; the file `erased` beside this one names those that a restore must erase again.
CREATE TABLE erased (
    user_id TEXT NOT NULL PRIMARY KEY,
    at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
