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
