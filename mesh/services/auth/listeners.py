"""What auth hears of user: whose rights have changed loses the sessions opened before.

user asks for the same as soon as it can; hearing it too makes it happen again after a restore.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh.services.auth import actions

if TYPE_CHECKING:
    from mesh.framework import Tx
    from mesh.services.auth.messages import UserChanged


def on_roles_changed(tx: Tx, event: UserChanged) -> None:
    """A session's roles are those it was opened with."""
    actions.end_all(tx, event.user_id, "roles-changed")


def on_suspended(tx: Tx, event: UserChanged) -> None:
    """Who is suspended is logged out everywhere."""
    actions.end_all(tx, event.user_id, "suspended")


def on_erased(tx: Tx, event: UserChanged) -> None:
    """Whoever is erased can log in no more, and nothing is left of the login."""
    actions.forget(tx, event.user_id)
