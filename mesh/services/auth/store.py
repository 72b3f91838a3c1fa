"""All SQL of auth and nothing but SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh.framework import SigningKey
from mesh.services.auth.model import Credentials, PublicKey, Session, Tries

if TYPE_CHECKING:
    from mesh.framework import Reader, Tx

SWEEP_MAX = 50
"""Rows one sweep removes: it rides on transactions that somebody waits for."""

KEYS_MAX = 8
"""Published keys: one signs, the others are retiring."""


def credentials_of(read: Reader | Tx, subject: str) -> Credentials | None:
    """By subject."""
    return read.one(
        Credentials,
        "SELECT subject, login, hash, version FROM credentials WHERE subject = :subject",
        subject=subject,
    )


def credentials_by_login(read: Reader | Tx, login: str) -> Credentials | None:
    """By login."""
    return read.one(
        Credentials,
        "SELECT subject, login, hash, version FROM credentials WHERE login = :login",
        login=login,
    )


def put_credentials(tx: Tx, subject: str, login: str, phc: str) -> int:
    """Insert or replace; returns the new version."""
    version = tx.one(
        int,
        "INSERT INTO credentials (subject, login, hash, changed_at_ms, version)"
        " VALUES (:subject, :login, :hash, :now, 1)"
        " ON CONFLICT (subject) DO UPDATE SET login = excluded.login, hash = excluded.hash,"
        " changed_at_ms = excluded.changed_at_ms, version = credentials.version + 1"
        " RETURNING version",
        subject=subject,
        login=login,
        hash=phc,
        now=tx.now_ms,
    )
    assert version is not None
    return version


def rehash(tx: Tx, known: Credentials, phc: str) -> None:
    """Keep the same password under a newer hash, unless it was changed meanwhile."""
    tx.execute(
        "UPDATE credentials SET hash = :hash WHERE subject = :subject AND hash = :known",
        hash=phc,
        subject=known.subject,
        known=known.hash,
    )


def tries(read: Reader | Tx, login: str) -> Tries | None:
    """Failed tries of a login; None when there are none."""
    return read.one(
        Tries, "SELECT failures, locked_until_ms FROM attempts WHERE login = :login", login=login
    )


def put_tries(tx: Tx, login: str, made: Tries) -> None:
    """Keep the tries of a login."""
    tx.execute(
        "INSERT INTO attempts (login, failures, locked_until_ms)"
        " VALUES (:login, :failures, :locked_until_ms)"
        " ON CONFLICT (login) DO UPDATE SET failures = excluded.failures,"
        " locked_until_ms = excluded.locked_until_ms",
        login=login,
        failures=made.failures,
        locked_until_ms=made.locked_until_ms,
    )


def clear_tries(tx: Tx, login: str) -> None:
    """Forget a login's failures."""
    tx.execute("DELETE FROM attempts WHERE login = :login", login=login)


def sweep_tries(tx: Tx, before_ms: int) -> None:
    """Drop a bounded number of those whose lock ended before that time."""
    tx.execute(
        "DELETE FROM attempts WHERE login IN (SELECT login FROM attempts"
        " WHERE locked_until_ms < :before_ms ORDER BY locked_until_ms LIMIT :most)",
        before_ms=before_ms,
        most=SWEEP_MAX,
    )


def session(read: Reader | Tx, session_id: str) -> Session | None:
    """By the id of the token's row."""
    return read.one(
        Session,
        "SELECT id, subject, family, expires_at_ms, revoked_at_ms FROM sessions WHERE id = :id",
        id=session_id,
    )


def session_by_hash(read: Reader | Tx, refresh_hash: bytes) -> Session | None:
    """By the hash of the token shown."""
    return read.one(
        Session,
        "SELECT id, subject, family, expires_at_ms, revoked_at_ms FROM sessions"
        " WHERE refresh_hash = :hash",
        hash=refresh_hash,
    )


def put_session(tx: Tx, new: Session, refresh_hash: bytes) -> bool:
    """Insert, or give the same live row another token; False when the id is another's."""
    changed = tx.execute(
        "INSERT INTO sessions (id, subject, refresh_hash, family, expires_at_ms)"
        " VALUES (:id, :subject, :hash, :family, :expires_at_ms)"
        " ON CONFLICT (id) DO UPDATE SET refresh_hash = excluded.refresh_hash"
        " WHERE sessions.family = excluded.family AND sessions.subject = excluded.subject"
        " AND sessions.revoked_at_ms IS NULL",
        id=new.id,
        subject=new.subject,
        hash=refresh_hash,
        family=new.family,
        expires_at_ms=new.expires_at_ms,
    )
    return changed == 1


def revoke_live(tx: Tx, family: str) -> bool:
    """Spend or revoke the live token of a session; False when there was none."""
    changed = tx.execute(
        "UPDATE sessions SET revoked_at_ms = :now WHERE family = :family AND revoked_at_ms IS NULL",
        now=tx.now_ms,
        family=family,
    )
    return changed == 1


def live_families(read: Reader | Tx, subject: str) -> list[str]:
    """The sessions that a subject has open, as many as there can be."""
    return read.all(
        str,
        "SELECT family FROM sessions WHERE subject = :subject AND revoked_at_ms IS NULL"
        " ORDER BY family",
        subject=subject,
    )


def evict_sessions(tx: Tx, subject: str, keep: int) -> None:
    """Drop the live tokens of all but a subject's newest sessions."""
    tx.execute(
        "DELETE FROM sessions WHERE revoked_at_ms IS NULL AND family IN (SELECT family"
        " FROM sessions WHERE subject = :subject AND revoked_at_ms IS NULL"
        " ORDER BY family DESC LIMIT :most OFFSET :keep)",
        subject=subject,
        most=SWEEP_MAX,
        keep=keep,
    )


def sweep_sessions(tx: Tx) -> None:
    """Drop a bounded number of expired tokens."""
    tx.execute(
        "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions"
        " WHERE expires_at_ms < :now ORDER BY expires_at_ms LIMIT :most)",
        now=tx.now_ms,
        most=SWEEP_MAX,
    )


def signing_key(read: Reader | Tx) -> SigningKey | None:
    """The key that signs."""
    return read.one(
        SigningKey, "SELECT kid, private, public FROM signing_keys WHERE retires_at_ms IS NULL"
    )


def published_keys(read: Reader | Tx, now_ms: int) -> list[PublicKey]:
    """Every key that a token in use may be signed with, the newest first."""
    return read.all(
        PublicKey,
        "SELECT kid, public FROM signing_keys"
        " WHERE retires_at_ms IS NULL OR retires_at_ms > :now"
        " ORDER BY created_at_ms DESC, kid LIMIT :most",
        now=now_ms,
        most=KEYS_MAX,
    )


def put_signing_key(tx: Tx, key: SigningKey) -> None:
    """Keep the key that signs from now on."""
    tx.execute(
        "INSERT INTO signing_keys (kid, private, public, created_at_ms)"
        " VALUES (:kid, :private, :public, :now)",
        kid=key.kid,
        private=key.private,
        public=key.public,
        now=tx.now_ms,
    )
