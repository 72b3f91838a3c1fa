"""All SQL of user and nothing but SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh.services.user.messages import AddressView
from mesh.services.user.model import GrantRow, Login, Seen, User

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mesh.framework import Reader, Tx
    from mesh.services.user.messages import AddAddress, Outcome, Role, SeedAddress, StatusChanged

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


def was_erased(read: Reader, user_id: str) -> bool:
    """Whether this is the id of somebody who has been forgotten."""
    query = "SELECT 1 FROM erased WHERE user_id = :user_id"
    return read.one(int, query, user_id=user_id) is not None


USERS_AFTER = (
    "SELECT id, email, display_name, status, version, created_at_ms FROM users"
    " WHERE id > :id AND (:status IS NULL OR status = :status)"
    " AND (:role IS NULL OR id IN (SELECT user_id FROM grants WHERE role = :role))"
    " ORDER BY id LIMIT :most"
)
"""In order of id, beyond that one; few may match, so it is scanned."""


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


def roles_of(read: Reader | Tx, user_ids: Sequence[str]) -> dict[str, list[Role]]:
    """The roles of each of these users; a page of them."""
    return {user_id: roles(read, user_id) for user_id in user_ids}


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


def revoke(tx: Tx, user_id: str, role: Role) -> bool:
    """Take a role away; False when it was not there."""
    changed = tx.execute(
        "DELETE FROM grants WHERE user_id = :user_id AND role = :role", user_id=user_id, role=role
    )
    return changed == 1


def other_admins(read: Reader | Tx, user_id: str) -> int:
    """Active admins beside this one."""
    found = read.one(
        int,
        "SELECT count(*) FROM grants JOIN users ON id = user_id"
        " WHERE role = 'admin' AND status = 'active' AND id <> :id",
        id=user_id,
    )
    return found or 0


def bump(tx: Tx, user_id: str) -> int:
    """The next version of a user."""
    version = tx.one(
        int, "UPDATE users SET version = version + 1 WHERE id = :id RETURNING version", id=user_id
    )
    assert version is not None
    return version


def rename(tx: Tx, user_id: str, display_name: str) -> None:
    """Give a user another name."""
    tx.execute(
        "UPDATE users SET display_name = :display_name WHERE id = :id",
        id=user_id,
        display_name=display_name,
    )


def move(tx: Tx, user_id: str, old: str, new: str) -> bool:
    """From one status to another; False when it was not in that one."""
    changed = tx.execute(
        "UPDATE users SET status = :new WHERE id = :id AND status = :old",
        id=user_id,
        old=old,
        new=new,
    )
    return changed == 1


def delete_user(tx: Tx, user_id: str) -> bool:
    """With roles, addresses, history and orders heard of; False when there was none."""
    return tx.execute("DELETE FROM users WHERE id = :id", id=user_id) == 1


def addresses(read: Reader | Tx, user_id: str, after: str, most: int) -> list[AddressView]:
    """A user's own, in order of id, beyond that one."""
    return read.all(
        AddressView,
        "SELECT id, name, line1, line2, city, region, postcode, country FROM addresses"
        " WHERE user_id = :user_id AND id > :after ORDER BY id LIMIT :most",
        user_id=user_id,
        after=after,
        most=most,
    )


def put_address(
    tx: Tx, address_id: str, user_id: str, address: AddAddress | SeedAddress, **rest: str | None
) -> None:
    """Add an address, once."""
    tx.execute(
        "INSERT INTO addresses"
        " (id, user_id, name, line1, line2, city, region, postcode, country, added_at_ms)"
        " VALUES (:id, :user_id, :name, :line1, :line2, :city, :region, :postcode, :country, :now)"
        " ON CONFLICT DO NOTHING",
        id=address_id,
        user_id=user_id,
        name=address.name,
        line1=address.line1,
        line2=rest.get("line2"),
        city=address.city,
        region=rest.get("region"),
        postcode=address.postcode,
        country=address.country,
        now=tx.now_ms,
    )


def delete_address(tx: Tx, address_id: str, user_id: str) -> bool:
    """Remove one of a user's own; False when there was none."""
    changed = tx.execute(
        "DELETE FROM addresses WHERE id = :id AND user_id = :user_id",
        id=address_id,
        user_id=user_id,
    )
    return changed == 1


def logins(read: Reader | Tx, user_id: str, before: str | None, most: int) -> list[Login]:
    """The newest lines of a user's history, older than that one."""
    return read.all(
        Login,
        "SELECT id, at_ms, outcome, client FROM logins"
        " WHERE user_id = :user_id AND (:before IS NULL OR id < :before)"
        " ORDER BY id DESC LIMIT :most",
        user_id=user_id,
        before=before,
        most=most,
    )


def orders(read: Reader | Tx, user_id: str, before: str | None, most: int) -> list[Seen]:
    """The newest orders that a user has made, older than that one."""
    return read.all(
        Seen,
        "SELECT order_id, status, version, total_minor, currency, heard_at_ms FROM orders_seen"
        " WHERE user_id = :user_id AND (:before IS NULL OR order_id < :before)"
        " ORDER BY order_id DESC LIMIT :most",
        user_id=user_id,
        before=before,
        most=most,
    )


def see_order(tx: Tx, told: StatusChanged) -> None:
    """Remember the newest status of an order, unless nobody of that id is here (any more)."""
    tx.execute(
        "INSERT INTO orders_seen"
        " (order_id, user_id, status, version, total_minor, currency, heard_at_ms)"
        " SELECT :order_id, id, :status, :version, :total_minor, :currency, :now"
        " FROM users WHERE id = :user_id"
        " ON CONFLICT (user_id, order_id) DO UPDATE SET status = excluded.status,"
        " version = excluded.version, total_minor = excluded.total_minor,"
        " currency = excluded.currency, heard_at_ms = excluded.heard_at_ms"
        " WHERE excluded.version > orders_seen.version",
        order_id=told.order_id,
        user_id=told.user_id,
        status=told.new,
        version=told.version,
        total_minor=told.total_minor,
        currency=told.currency,
        now=tx.now_ms,
    )


def probes_full_since(read: Reader | Tx, source: str, since_ms: int, most: int) -> int | None:
    """When the `most`-th newest probe of a source was; None when there are fewer since then."""
    return read.one(
        int,
        "SELECT at_ms FROM probes WHERE source = :source AND at_ms > :since"
        " ORDER BY at_ms DESC LIMIT 1 OFFSET :beyond",
        source=source,
        since=since_ms,
        beyond=most - 1,
    )


def note_probe(tx: Tx, probe_id: str, source: str, since_ms: int) -> None:
    """Remember a probe; with it, drop some of those that count no more."""
    tx.execute(
        "DELETE FROM probes WHERE id IN"
        " (SELECT id FROM probes WHERE at_ms <= :since ORDER BY at_ms LIMIT :most)",
        since=since_ms,
        most=SWEEP_MAX,
    )
    tx.execute(
        "INSERT INTO probes (id, source, at_ms) VALUES (:id, :source, :now)",
        id=probe_id,
        source=source,
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
