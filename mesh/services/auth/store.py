"""All SQL of auth and nothing but SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh.framework import SigningKey
from mesh.services.auth import model
from mesh.services.auth.model import Credentials, Pace, PublicKey, Session, Standing, Tries

if TYPE_CHECKING:
    from mesh.framework import Reader, Tx

SWEEP_MAX = 50
"""Rows one sweep removes: it rides on transactions that somebody waits for."""

KEYS_READ_MAX = 2 * model.KEYS_MAX
"""Rows of keys read at once: more than are ever published."""


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


def delete_credentials(tx: Tx, subject: str) -> None:
    """With everything that was guessed at them."""
    for table in ("attempts", "guesses"):
        tx.execute(
            f"DELETE FROM {table} WHERE login IN"  # noqa: S608  two names of our own
            " (SELECT login FROM credentials WHERE subject = :subject)",
            subject=subject,
        )
    tx.execute("DELETE FROM credentials WHERE subject = :subject", subject=subject)


def standing(read: Reader | Tx, subject: str, now_ms: int) -> Standing:
    """What is known of a subject, also of one that has nothing here."""
    found = read.one(
        Standing,
        "SELECT (SELECT changed_at_ms FROM credentials WHERE subject = :subject) AS changed_at_ms,"
        " (SELECT count(*) FROM sessions WHERE subject = :subject AND revoked_at_ms IS NULL"
        " AND expires_at_ms > :now) AS sessions,"
        " coalesce(max(a.failures), 0) AS failures,"
        " coalesce(max(a.locked_until_ms), 0) AS locked_until_ms"
        " FROM attempts a JOIN credentials c ON c.login = a.login WHERE c.subject = :subject",
        subject=subject,
        now=now_ms,
    )
    assert found is not None
    return found


def tries(read: Reader | Tx, login: str, source: str) -> Tries | None:
    """Failed tries of a login from a source; None when there are none."""
    return read.one(
        Tries,
        "SELECT failures, locked_until_ms FROM attempts WHERE login = :login AND source = :source",
        login=login,
        source=source,
    )


def put_tries(tx: Tx, login: str, source: str, made: Tries) -> None:
    """Keep the tries of a login from a source."""
    tx.execute(
        "INSERT INTO attempts (login, source, failures, locked_until_ms)"
        " VALUES (:login, :source, :failures, :locked_until_ms)"
        " ON CONFLICT (login, source) DO UPDATE SET failures = excluded.failures,"
        " locked_until_ms = excluded.locked_until_ms",
        login=login,
        source=source,
        failures=made.failures,
        locked_until_ms=made.locked_until_ms,
    )


def clear_tries(tx: Tx, login: str, source: str | None = None) -> None:
    """Forget a login's failures: those from one source, or all."""
    tx.execute(
        "DELETE FROM attempts WHERE login = :login AND (:source IS NULL OR source = :source)",
        login=login,
        source=source,
    )


def sweep_tries(tx: Tx, before_ms: int) -> None:
    """Drop a bounded number of those whose lock ended before that time."""
    tx.execute(
        "DELETE FROM attempts WHERE (login, source) IN (SELECT login, source FROM attempts"
        " WHERE locked_until_ms < :before_ms ORDER BY locked_until_ms LIMIT :most)",
        before_ms=before_ms,
        most=SWEEP_MAX,
    )


def pace(read: Reader | Tx, login: str, source: str, now_ms: int) -> Pace:
    """What is being guessed, and what this source has guessed wrong."""
    found = read.one(
        Pace,
        "SELECT count(*) FILTER (WHERE login = :login AND failed = 0) AS open,"
        " count(*) FILTER (WHERE failed = 0) AS source_open,"
        " count(*) FILTER (WHERE failed = 1) AS source_failures,"
        " (SELECT at_ms FROM guesses WHERE source = :source AND failed = 1 AND at_ms > :since"
        " ORDER BY at_ms DESC LIMIT 1 OFFSET :beyond) AS full_since_ms"
        " FROM guesses WHERE source = :source"
        " AND (failed = 1 AND at_ms > :since OR failed = 0 AND at_ms > :alive)",
        login=login,
        source=source,
        since=now_ms - model.SOURCE_MS,
        alive=now_ms - model.OPEN_MS,
        beyond=model.SOURCE_FAILURES - 1,
    )
    assert found is not None
    return found


def put_guess(tx: Tx, guess: str, login: str, source: str) -> None:
    """Note a guess that is about to be hashed; with it, drop some of those that count no more."""
    tx.execute(
        "DELETE FROM guesses WHERE id IN"
        " (SELECT id FROM guesses WHERE at_ms <= :before ORDER BY at_ms LIMIT :most)",
        before=tx.now_ms - model.SOURCE_MS,
        most=SWEEP_MAX,
    )
    tx.execute(
        "INSERT INTO guesses (id, login, source, failed, at_ms)"
        " VALUES (:id, :login, :source, 0, :now)",
        id=guess,
        login=login,
        source=source,
        now=tx.now_ms,
    )


def fail_guess(tx: Tx, guess: str) -> None:
    """It was wrong: it counts for a while."""
    tx.execute("UPDATE guesses SET failed = 1 WHERE id = :id", id=guess)


def drop_guess(tx: Tx, guess: str) -> None:
    """It was right, or nobody looked: it counts no more."""
    tx.execute("DELETE FROM guesses WHERE id = :id", id=guess)


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


def delete_sessions(tx: Tx, subject: str) -> None:
    """Every token of a subject, spent or not."""
    tx.execute("DELETE FROM sessions WHERE subject = :subject", subject=subject)


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
        most=KEYS_READ_MAX,
    )


def retire_signing_key(tx: Tx, until_ms: int) -> None:
    """The key that signs signs no more, and is published until then; its private half is gone."""
    tx.execute(
        "UPDATE signing_keys SET retires_at_ms = :until_ms, private = zeroblob(0)"
        " WHERE retires_at_ms IS NULL",
        until_ms=until_ms,
    )
    tx.execute(
        "DELETE FROM signing_keys WHERE kid IN (SELECT kid FROM signing_keys"
        " WHERE retires_at_ms <= :now ORDER BY retires_at_ms LIMIT :most)",
        now=tx.now_ms,
        most=SWEEP_MAX,
    )


def delete_key(tx: Tx, kid: str) -> bool:
    """Publish it no more; False when there is none of that id."""
    return tx.execute("DELETE FROM signing_keys WHERE kid = :kid", kid=kid) == 1


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
