"""Who calls, and who we are when we call.

Three kinds of token, never interchangeable: a *user's* (signed by the service `auth`, for the whole
project), a *service's* (signed by the caller with its own key, for one callee) and the
*operator's* (signed for the control socket of the supervisor, for one callee). A user's identity
travels only as that verified token, never as a header.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from mesh import clock, codec, telemetry, tokens
from mesh.client import Call, Client, Envelope
from mesh.errors import Forbidden, InvalidInput, MeshError, ServiceUnavailable, Unauthenticated

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from mesh.database import Database, Transaction
    from mesh.framework.service import Allow
    from mesh.framework.transaction import Tx

ISSUER = "auth"
"""The service that signs users' tokens and tells `auth.keys_changed`."""

RENEW_AFTER_S = 45
VERIFIED_MAX = 4096
"""Verified tokens remembered, so that a signature is checked once and not at each request."""

REVOKED_MAX = 65_536
"""Ended sessions remembered until their last access token is over: two hashes at a time cannot
open as many within its ten minutes. Beyond, the one that ends first is forgotten."""

SWEEP_MAX = 50
"""Rows of sessions that are long over, removed with each that ends."""

FETCH_FLOOR_S = 1.0
"""An unknown key makes us ask auth for its key set, at most this often."""

FETCH_RETRY_S = (0.2, 5.0)
"""First and longest wait between background tries to get the first key set."""

log = telemetry.logger("framework.identity")


class Caller(Struct, frozen=True):
    """Who asks. `id` is a user's or a service's; `roles` are a user's own."""

    kind: Literal["anyone", "user", "service", "operator"] = "anyone"
    id: str = ""
    roles: tuple[str, ...] = ()
    session: str = ""
    expires_s: int = 0

    @property
    def subject(self) -> str:
        """One text for each distinct caller, as idempotency and history keep it."""
        return f"{self.kind}:{self.id}" if self.id else self.kind

    def has(self, role: str) -> bool:
        """Whether this is a user with that role."""
        return self.kind == "user" and role in self.roles


ANONYMOUS = Caller()


class SessionEnded(Unauthenticated):
    """A user's token that holds in all but one: its session has ended. `caller` is whose it is."""

    code = "session-revoked"

    def __init__(self, caller: Caller) -> None:
        """Tell it to whoever shows the token."""
        super().__init__("the session has ended")
        self.caller = caller


class KeySet(Struct, frozen=True):
    """auth's public keys, as `/.well-known/jwks.json` and `auth.keys_changed` carry them."""

    keys: tuple[dict[str, str], ...]


class Nothing(Struct, frozen=True):
    """A request without members."""


class Revoked(Struct, frozen=True):
    """What is read of `auth.session_revoked`; `until_ms` is when its last token is over."""

    session_id: str
    until_ms: int


class _Row(Struct, frozen=True):
    id: str
    until_ms: int


JWKS = Call(ISSUER, "GET /.well-known/jwks.json", Nothing, KeySet)


class Identity:
    """Signs this service's tokens and verifies those shown to it."""

    def __init__(self, service: str, file: tokens.IdentityFile) -> None:
        """`file` as `provision` wrote it."""
        self.service = service
        self.project = file.project
        self._key = tokens.SigningKey(file.kid, file.private, file.keys[service])
        self._peers = {name: tokens.public_key(x) for name, x in file.keys.items()}
        self._callers = {name for name, callees in file.calls.items() if service in callees}
        self._user_keys: dict[str, Ed25519PublicKey] = {}
        self._verified: OrderedDict[str, Caller] = OrderedDict()
        self._revoked: OrderedDict[str, int] = OrderedDict()
        self._own: dict[str, tuple[float, str]] = {}
        self._client: Client | None = None
        self._database: Database | None = None
        self._fetching = asyncio.Lock()
        self._fetched_s = -FETCH_FLOOR_S
        self._loads = 0
        """Key sets taken so far: an answer that was on its way meanwhile is the older one."""

    @property
    def trusts_issuer(self) -> bool:
        """Whether this mesh has an issuer of users' tokens, other than ourselves."""
        return ISSUER in self._peers and self.service != ISSUER

    def token(self, audience: str) -> str:
        """Our token for `audience`, renewed after RENEW_AFTER_S."""
        made_s, text = self._own.get(audience, (0.0, ""))
        if not text or clock.monotonic_s() - made_s > RENEW_AFTER_S:
            text = tokens.own(self._key, self.service, audience)
            self._own[audience] = (clock.monotonic_s(), text)
        return text

    def attach(self, client: Client, database: Database) -> None:
        """Where to get users' keys from: auth itself, and the set kept in our own database."""
        self._client, self._database = client, database
        self.load_keys()
        rows = database.read.all(
            _Row,
            "SELECT id, until_ms FROM revoked_session ORDER BY until_ms DESC LIMIT :most",
            most=REVOKED_MAX,
        )
        self._revoked = OrderedDict((row.id, row.until_ms) for row in reversed(rows))

    def load_keys(self) -> None:
        """Take the key set that our database holds; tokens verified before are looked at anew."""
        assert self._database is not None
        document = self._database.read.one(bytes, "SELECT document FROM key_set")
        if document is None:
            return
        found = codec.decode(document, KeySet)
        self._user_keys = {
            key["kid"]: tokens.public_key(key["x"]) for key in found.keys if "kid" in key
        }
        self._verified.clear()
        self._loads += 1

    def revoke(self, ended: Revoked) -> None:
        """Take no token of this session any more."""
        self._revoked[ended.session_id] = ended.until_ms
        if len(self._revoked) > REVOKED_MAX:
            self._revoked.popitem(last=False)
        dropped = [text for text, of in self._verified.items() if of.session == ended.session_id]
        for text in dropped:
            del self._verified[text]

    async def verify(self, bearer: str) -> Caller:
        """Who shows this token.

        Raises: Unauthenticated, SessionEnded; ServiceUnavailable when no key set could be had yet.
        """
        known = self.known(bearer)
        if known is not None:
            return known
        caller = self._verified[bearer] = await self._check(bearer)
        if len(self._verified) > VERIFIED_MAX:
            self._verified.popitem(last=False)
        return self.known(bearer) or caller

    def known(self, bearer: str) -> Caller | None:
        """The same at once; None for a token that must be looked at first."""
        caller = self._verified.get(bearer)
        if caller is None:
            return None
        if caller.expires_s + tokens.LEEWAY_S < clock.now_ms() / clock.MS_PER_S:
            self._verified.pop(bearer, None)
            raise Unauthenticated("the token has expired", code="token-expired")
        if caller.session and caller.session in self._revoked:
            raise SessionEnded(caller)
        return caller

    async def _check(self, bearer: str) -> Caller:
        kid, typ = tokens.header(bearer)
        if typ == tokens.USER_TOKEN:
            return await self._check_user(bearer, kid)
        if typ not in {tokens.SERVICE_TOKEN, tokens.OPERATOR_TOKEN}:
            raise Unauthenticated("the token is of no kind known here")
        return self._check_peer(bearer)

    def _check_peer(self, bearer: str) -> Caller:
        """A service or the operator: the issuer named must be the one whose key signed it."""
        claims = tokens.verify_peer(bearer, self._peers, aud=self.service)
        issuer = claims.iss
        if issuer == "operator":
            return Caller("operator", issuer, expires_s=claims.exp)
        if issuer not in self._callers:
            raise Forbidden(
                f"{issuer} may not ask {self.service}",
                hint=f"add `{self.service}` to `calls:` of {issuer}",
            )
        return Caller("service", issuer, expires_s=claims.exp)

    async def _check_user(self, bearer: str, kid: str) -> Caller:
        if not self.trusts_issuer:
            raise Unauthenticated("users' tokens are not taken here")
        if kid not in self._user_keys:
            await self._fetch_keys()
        claims = tokens.verify(
            bearer, self._user_keys, iss=ISSUER, aud=self.project, life_s=tokens.ACCESS_S
        )
        return Caller("user", claims.sub, claims.roles, claims.sid, claims.exp)

    async def _fetch_keys(self) -> None:
        """Ask auth for its key set, unless that was tried a moment ago.

        Raises: ServiceUnavailable while there is none at all.
        """
        async with self._fetching:
            if clock.monotonic_s() - self._fetched_s >= FETCH_FLOOR_S:
                try:
                    await self.refresh_keys()
                except MeshError as error:
                    log.info("no key set", extra=telemetry.facts(error=str(error)))
        if not self._user_keys:
            raise ServiceUnavailable("identities cannot be checked yet: auth has not answered")

    async def refresh_keys(self) -> None:
        """Ask auth for its key set and keep it, unless an event has brought one meanwhile.

        Raises: what asking raises; the floor counts from the end of the attempt.
        """
        loads = self._loads
        assert self._client is not None
        assert self._database is not None
        envelope = Envelope(
            trace=codec.replace(telemetry.new_trace(), sampled=False),
            deadline_s=clock.monotonic_s() + JWKS.policy.timeout_s,
        )
        try:
            found = await self._client.ask(JWKS, Nothing(), envelope)
        finally:
            self._fetched_s = clock.monotonic_s()
        if loads == self._loads:
            await self._database.write(keep_keys, found)
            self.load_keys()

    async def get_first_keys(self) -> None:
        """In the background until auth has answered once, however long it is away.

        Also where a key set is kept: it may have changed while nobody here heard of it.
        """
        wait_s, longest_s = FETCH_RETRY_S
        while True:
            try:
                await self.refresh_keys()
            except MeshError as error:
                log.info("no key set yet", extra=telemetry.facts(error=str(error)))
                await asyncio.sleep(clock.uniform(wait_s / 2, wait_s))
                wait_s = min(wait_s * 2, longest_s)
            else:
                return


def keep_keys(tx: Transaction | Tx, found: KeySet) -> None:
    """Store auth's key set in our own database."""
    tx.execute(
        "INSERT INTO key_set (one, document, fetched_ms) VALUES (1, :document, :now)"
        " ON CONFLICT (one) DO UPDATE SET document = excluded.document,"
        " fetched_ms = excluded.fetched_ms",
        document=codec.encode(found),
        now=clock.now_ms(),
    )


def keep_revoked(tx: Tx, ended: Revoked) -> None:
    """Note in our own database that a session has ended, as long as that matters."""
    tx.execute(
        "DELETE FROM revoked_session WHERE id IN (SELECT id FROM revoked_session"
        " WHERE until_ms < :before ORDER BY until_ms LIMIT :most)",
        before=tx.now_ms - tokens.LEEWAY_S * clock.MS_PER_S,
        most=SWEEP_MAX,
    )
    tx.execute(
        "INSERT INTO revoked_session (id, until_ms) VALUES (:id, :until_ms)"
        " ON CONFLICT (id) DO UPDATE SET until_ms = excluded.until_ms",
        id=ended.session_id,
        until_ms=ended.until_ms,
    )


def admit(caller: Caller, allow: Allow) -> None:
    """Let a caller through, or not: what is not allowed is refused.

    Raises: Unauthenticated (nobody yet), Forbidden (somebody else).
    """
    if allow.anyone:
        return
    if caller.kind == "user" and (
        allow.owner or "user" in allow.roles or set(caller.roles) & set(allow.roles)
    ):
        return
    if caller.kind == "service" and caller.id in allow.services:
        return
    if caller.kind == "operator" and allow.operator:
        return
    if caller.kind == "anyone":
        raise Unauthenticated("this needs an identity: send `Authorization: Bearer …`")
    raise Forbidden(f"{caller.kind} {caller.id} may not do this")


def bearer_of(header: str | None) -> str | None:
    """The token of an Authorization header; None without one.

    Raises: InvalidInput when it is another scheme.
    """
    if header is None:
        return None
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise InvalidInput("Authorization must be `Bearer <token>`")
    return token.strip()
