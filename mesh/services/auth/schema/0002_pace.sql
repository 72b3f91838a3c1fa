-- Failures count for a login and where the guess came from, so that nobody can lock out another.
DROP TABLE attempts;
CREATE TABLE attempts (
    login TEXT NOT NULL,
    source TEXT NOT NULL,
    failures INTEGER NOT NULL CHECK (failures >= 1),
    locked_until_ms INTEGER NOT NULL,
    PRIMARY KEY (login, source)
) STRICT;
CREATE INDEX attempts_by_age ON attempts (locked_until_ms);

-- Guesses of the last minute: noted before the hash, kept if they failed.
CREATE TABLE guesses (
    id TEXT NOT NULL PRIMARY KEY,
    login TEXT NOT NULL,
    source TEXT NOT NULL,
    failed INTEGER NOT NULL CHECK (failed IN (0, 1)),
    at_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX guesses_by_source ON guesses (source, failed, at_ms);
CREATE INDEX guesses_by_age ON guesses (at_ms);

-- All tokens of a subject, to be deleted with it.
CREATE INDEX sessions_by_subject ON sessions (subject);
