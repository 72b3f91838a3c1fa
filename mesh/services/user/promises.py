"""What must always hold of user's data: queries whose rows are the offenders, for `mesh verify`."""

from __future__ import annotations

TOLD_ONCE = "SELECT key FROM outbox WHERE type = 'user.registered' GROUP BY key HAVING count(*) > 1"
PENDING_HAVE_NOTHING = (
    "SELECT id FROM users WHERE status = 'pending' AND"
    " (id IN (SELECT user_id FROM grants)"
    " OR id IN (SELECT key FROM outbox WHERE type = 'user.registered'))"
)
ACTIVE_WITHOUT_CREDENTIALS = (
    "SELECT id FROM users WHERE status = 'active'"
    " AND id NOT IN (SELECT subject FROM auth.credentials)"
)
CREDENTIALS_OF_NOBODY = (
    "SELECT subject FROM auth.credentials WHERE subject NOT IN (SELECT id FROM users)"
    " AND subject NOT IN (SELECT user_id FROM erased)"
)
ERASED_ARE_HERE = "SELECT id FROM users WHERE id IN (SELECT user_id FROM erased)"
ERASED_WITH_CREDENTIALS = (
    "SELECT user_id FROM erased WHERE user_id IN (SELECT subject FROM auth.credentials)"
    " AND user_id NOT IN (SELECT key FROM deferred WHERE action = 'erase-credentials')"
)
