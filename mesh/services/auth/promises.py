"""What must always hold of auth's data: queries whose rows are the offenders, for `mesh verify`."""

from __future__ import annotations

PASSWORDS_NOT_HASHED = "SELECT subject FROM credentials WHERE hash NOT LIKE '$argon2id$v=19$m=%'"
SESSIONS_WITH_TWO_TOKENS = (
    "SELECT family FROM sessions WHERE revoked_at_ms IS NULL GROUP BY family HAVING count(*) > 1"
)
SESSIONS_UNSIGNED = (
    "SELECT id FROM sessions"
    " WHERE (SELECT count(*) FROM signing_keys WHERE retires_at_ms IS NULL) <> 1"
)
