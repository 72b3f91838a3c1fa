"""What must always hold of auth's data: queries whose rows are the offenders, for `mesh verify`."""

from __future__ import annotations

PASSWORDS_NOT_HASHED = "SELECT subject FROM credentials WHERE hash NOT LIKE '$argon2id$v=19$m=%'"
SESSIONS_WITH_TWO_TOKENS = (
    "SELECT subject, count(*) || ' in session ' || family FROM sessions WHERE revoked_at_ms IS NULL"
    " GROUP BY family HAVING count(*) > 1"
)
SESSIONS_UNSIGNED = """
SELECT subject, count(*) || ' sessions, and keys that sign: ' || k.signing FROM sessions,
    (SELECT count(*) AS signing FROM signing_keys WHERE retires_at_ms IS NULL) k
WHERE k.signing <> 1 GROUP BY subject
"""
