-- What is known of a person. A pending one has an e-mail and, as far as user knows, no credentials.
CREATE TABLE users (
    id TEXT NOT NULL PRIMARY KEY,
    email TEXT NOT NULL UNIQUE CHECK (email = lower(email)),
    display_name TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('pending', 'active', 'suspended', 'closed')),
    version INTEGER NOT NULL CHECK (version >= 1),
    created_at_ms INTEGER NOT NULL
) STRICT;

-- No role implies another.
CREATE TABLE grants (
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    role TEXT NOT NULL CHECK (role IN ('customer', 'staff', 'admin')),
    granted_by TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (user_id, role)
) STRICT, WITHOUT ROWID;

-- Who came in, and who was refused. A refused unknown e-mail is a line without a user: it costs
-- the same as a wrong password, and what was typed is not kept.
CREATE TABLE logins (
    id TEXT NOT NULL PRIMARY KEY,
    user_id TEXT REFERENCES users (id) ON DELETE CASCADE,
    at_ms INTEGER NOT NULL,
    outcome TEXT NOT NULL CHECK (outcome IN ('accepted', 'refused', 'acted-as')),
    client TEXT NOT NULL
) STRICT;
CREATE INDEX logins_by_user ON logins (user_id, at_ms);
CREATE INDEX logins_by_age ON logins (at_ms);
