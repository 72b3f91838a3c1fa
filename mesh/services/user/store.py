"""All SQL of user and nothing but SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh.services.user.model import GrantRow, User

if TYPE_CHECKING:
    from mesh.framework import Reader, Tx
    from mesh.services.user.messages import Role
    from mesh.services.user.model import Outcome

ROLES_MAX = 3
"""As many as there are."""

SWEEP_MAX = 20
"""Rows of history one login removes: somebody waits for it."""


def user(read: Reader | Tx, user_id: str) -> User | None:
    """By id."""
    return read.one(
        User,
        "SELECT id, email, display_name, status, version, created_at_ms FROM users WHERE id = :id",
        id=user_id,
    )


def user_by_email(read: Reader | Tx, email: str) -> User | None:
    """By e-mail, in its normal form."""
    return read.one(
        User,
        "SELECT id, email, display_name, status, version, created_at_ms FROM users"
        " WHERE email = :email",
        email=email,
    )


def users_called(read: Reader | Tx, name: str) -> list[User]:
    """At most two whose e-mail begins with `name@`; a range, so that the index is used."""
    return read.all(
        User,
        "SELECT id, email, display_name, status, version, created_at_ms FROM users"
        " WHERE email >= :first AND email < :beyond ORDER BY email LIMIT 2",
        first=f"{name}@",
        beyond=f"{name}A",
    )


def users_after(read: Reader | Tx, user_id: str, most: int) -> list[User]:
    """In order of id, beyond that one."""
    return read.all(
        User,
        "SELECT id, email, display_name, status, version, created_at_ms FROM users"
        " WHERE id > :id ORDER BY id LIMIT :most",
        id=user_id,
        most=most,
    )


def insert_pending(tx: Tx, user_id: str, email: str, display_name: str) -> None:
    """Take an e-mail for somebody, unless it is taken."""
    tx.execute(
        "INSERT INTO users (id, email, display_name, status, version, created_at_ms)"
        " VALUES (:id, :email, :display_name, 'pending', 1, :now) ON CONFLICT DO NOTHING",
        id=user_id,
        email=email,
        display_name=display_name,
        now=tx.now_ms,
    )


def activate(tx: Tx, user_id: str, display_name: str) -> bool:
    """From pending to active; False when it was not pending."""
    changed = tx.execute(
        "UPDATE users SET status = 'active', display_name = :display_name, version = version + 1"
        " WHERE id = :id AND status = 'pending'",
        id=user_id,
        display_name=display_name,
    )
    return changed == 1


def roles(read: Reader | Tx, user_id: str) -> list[Role]:
    """A user's own, in alphabetical order."""
    found = read.all(
        GrantRow,
        "SELECT user_id, role FROM grants WHERE user_id = :user_id ORDER BY role",
        user_id=user_id,
    )
    return [row.role for row in found]


def roles_between(read: Reader | Tx, first: str, last: str, most: int) -> dict[str, list[Role]]:
    """The roles of the users from one id to another, of whom there are at most `most`."""
    found: dict[str, list[Role]] = {}
    for row in read.all(
        GrantRow,
        "SELECT user_id, role FROM grants WHERE user_id BETWEEN :first AND :last"
        " ORDER BY user_id, role LIMIT :most",
        first=first,
        last=last,
        most=most * ROLES_MAX,
    ):
        found.setdefault(row.user_id, []).append(row.role)
    return found


def grant(tx: Tx, user_id: str, role: Role, granted_by: str) -> None:
    """Give somebody a role; once is enough."""
    tx.execute(
        "INSERT INTO grants (user_id, role, granted_by, at_ms)"
        " VALUES (:user_id, :role, :granted_by, :now) ON CONFLICT DO NOTHING",
        user_id=user_id,
        role=role,
        granted_by=granted_by,
        now=tx.now_ms,
    )


def note_login(tx: Tx, login_id: str, user_id: str | None, outcome: Outcome, client: str) -> None:
    """One line of history; `user_id` is None for an e-mail that nobody has."""
    tx.execute(
        "INSERT INTO logins (id, user_id, at_ms, outcome, client)"
        " VALUES (:id, :user_id, :now, :outcome, :client)",
        id=login_id,
        user_id=user_id,
        now=tx.now_ms,
        outcome=outcome,
        client=client,
    )


def sweep_logins(tx: Tx, before_ms: int) -> None:
    """Drop a bounded number of older lines."""
    tx.execute(
        "DELETE FROM logins WHERE id IN"
        " (SELECT id FROM logins WHERE at_ms < :before_ms ORDER BY at_ms LIMIT :most)",
        before_ms=before_ms,
        most=SWEEP_MAX,
    )
