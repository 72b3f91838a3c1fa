"""Signed tokens (JWT, RFC 7519) with one algorithm, EdDSA over Ed25519, and nothing to choose.

Here too: the keys that `mesh up` makes for the operator and each service, since the
supervisor mints with them and must not carry the framework along.

A verifier here looks at no `alg`, `jwk`, `jku`, `x5u` or `crit` of the token: the algorithm is
fixed, the key is looked up by `kid` in a dict of its own, and `typ`, `iss` and `aud` must be
exactly what the verifier expects.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from typing import TYPE_CHECKING

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Struct

from mesh import clock, codec
from mesh.errors import Forbidden, InvalidInput, Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

SERVICE_TOKEN_S = 60
"""Life of a service's and of the operator's token."""

ACCESS_S = 600
"""Life of a user's access token; a verifier takes none that was made for longer."""

LEEWAY_S = 10
"""Clock difference tolerated between processes of one machine."""

TOKEN_CHARACTERS_MAX = 4096
"""A longer token is not looked at."""

USER_TOKEN = "at+jwt"  # noqa: S105  a media type (RFC 9068), not a secret
SERVICE_TOKEN = "svc+jwt"  # noqa: S105  likewise
OPERATOR_TOKEN = "op+jwt"  # noqa: S105  likewise

_FORM = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)
"""RFC 7515: unpadded base64url. A lenient decoder would take one token in many spellings."""


class SigningKey(Struct, frozen=True):
    """A private key with its id; `private` is 32 raw bytes, `public` the unpadded base64url `x`."""

    kid: str
    private: bytes
    public: str


class Claims(Struct, frozen=True):
    """What a verified token says. Times in seconds since the epoch."""

    iss: str
    sub: str
    aud: str
    iat: int
    exp: int
    sid: str = ""
    roles: tuple[str, ...] = ()


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def new_key() -> SigningKey:
    """A fresh Ed25519 key; its id is derived from the public part."""
    private = Ed25519PrivateKey.generate()
    public = private.public_key().public_bytes_raw()
    kid = hashlib.blake2b(public, digest_size=8).hexdigest()
    return SigningKey(kid, private.private_bytes_raw(), _base64url(public))


def jwk(kid: str, public: str) -> dict[str, str]:
    """The public key as a JSON Web Key (RFC 8037)."""
    return {"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": kid, "x": public}


def public_key(x: str) -> Ed25519PublicKey:
    """The key that a JWK's `x` names.

    Raises: InvalidInput.
    """
    try:
        raw = base64.urlsafe_b64decode(x + "=" * (-len(x) % 4))
        return Ed25519PublicKey.from_public_bytes(raw)
    except ValueError:
        raise InvalidInput("not an Ed25519 public key") from None


def sign(key: SigningKey, claims: Claims, *, typ: str) -> str:
    """A compact JWT."""
    payload = {name: value for name, value in codec.plain(claims).items() if value}
    private = Ed25519PrivateKey.from_private_bytes(key.private)
    return jwt.encode(payload, private, algorithm="EdDSA", headers={"kid": key.kid, "typ": typ})


def mint(key: SigningKey, *, typ: str, iss: str, sub: str, aud: str, life_s: int) -> str:
    """A token that begins now and lives `life_s` seconds."""
    now_s = clock.now_ms() // clock.MS_PER_S
    return sign(key, Claims(iss, sub, aud, now_s, now_s + life_s), typ=typ)


def header(token: str) -> tuple[str, str]:
    """`(kid, typ)` of a token, not yet trusted.

    Raises: Unauthenticated when it is no JWT of ours in form.
    """
    if len(token) > TOKEN_CHARACTERS_MAX:
        raise Unauthenticated("the token is too long")
    if not _FORM.fullmatch(token):
        raise Unauthenticated("the token is malformed")
    try:
        found = jwt.get_unverified_header(token)
    except (jwt.InvalidTokenError, ValueError, RecursionError):
        raise Unauthenticated("the token is malformed") from None
    kid, typ = found.get("kid"), found.get("typ")
    if found.get("alg") != "EdDSA" or {"jwk", "jku", "x5u", "x5c", "crit"} & found.keys():
        raise Unauthenticated("the token's header is not acceptable")
    if not isinstance(kid, str) or not isinstance(typ, str):
        raise Unauthenticated("the token's header is incomplete")
    return kid, typ


def unverified_issuer(token: str) -> str:
    """Whom the token says it is from; only good for choosing the key to verify it with.

    Raises: Unauthenticated.
    """
    try:
        payload = jwt.decode(token, options={"verify_signature": False})
    except (jwt.InvalidTokenError, ValueError, RecursionError):
        raise Unauthenticated("the token is malformed") from None
    return str(payload.get("iss", ""))


def verify(
    token: str, keys: Mapping[str, Ed25519PublicKey], *, iss: str, aud: str, life_s: int
) -> Claims:
    """The claims of a token that one of `keys` (by kid) has signed.

    Args:
        life_s: a token that was made for longer is not taken, whoever signed it.

    Raises: Unauthenticated.
    """
    kid, _ = header(token)
    key = keys.get(kid)
    if key is None:
        raise Unauthenticated("the token's key is unknown", code="unknown-key")
    try:
        payload = jwt.decode(
            token,
            key,
            algorithms=["EdDSA"],
            issuer=iss,
            audience=aud,
            leeway=LEEWAY_S,
            options={"require": ["iss", "sub", "aud", "iat", "exp"], "strict_aud": True},
        )
        claims = codec.convert(payload, Claims)
    except jwt.ExpiredSignatureError:
        raise Unauthenticated("the token has expired", code="token-expired") from None
    except (jwt.InvalidTokenError, InvalidInput, ValueError, RecursionError):
        raise Unauthenticated("the token does not hold") from None
    if claims.exp - claims.iat > life_s:
        raise Unauthenticated("the token was made for too long")
    return claims


def verify_peer(token: str, keys: Mapping[str, Ed25519PublicKey], *, aud: str) -> Claims:
    """The claims of the operator's or of a service's own token: `iss` is who it is.

    Args:
        keys: `operator` and each service.

    Raises: Unauthenticated.
    """
    kid, typ = header(token)
    issuer = unverified_issuer(token)
    key = keys.get(issuer)
    if key is None or typ != (OPERATOR_TOKEN if issuer == "operator" else SERVICE_TOKEN):
        raise Unauthenticated("the token's issuer is unknown")
    return verify(token, {kid: key}, iss=issuer, aud=aud, life_s=SERVICE_TOKEN_S)


class IdentityFile(Struct, frozen=True):
    """What a service is given at its start (0600): its own private key, everybody's public ones.

    `calls` is who may ask whom; `keys` maps `operator` and each service to a public `x`.
    """

    project: str
    private: bytes
    kid: str
    keys: dict[str, str]
    calls: dict[str, tuple[str, ...]]


class Operator:
    """Mints tokens for the control socket; lives in the supervisor's process."""

    def __init__(self, keys: Mapping[str, SigningKey]) -> None:
        """`keys`: `operator` and each service."""
        self._keys = keys

    def token(self, subject: str, audience: str) -> str:
        """A token of at most 60 s, as the operator or in the name of a service.

        Raises: Forbidden for a subject that has no key here.
        """
        key = self._keys.get(subject)
        if key is None:
            raise Forbidden(f"no identity {subject!r} in this mesh")
        return own(key, subject, audience)


def own(key: SigningKey, subject: str, audience: str) -> str:
    """A token in the name of the operator or of a service, for one callee."""
    typ = OPERATOR_TOKEN if subject == "operator" else SERVICE_TOKEN
    return mint(key, typ=typ, iss=subject, sub=subject, aud=audience, life_s=SERVICE_TOKEN_S)


def provision(directory: Path, *, project: str, calls: Mapping[str, Sequence[str]]) -> Operator:
    """Make fresh keys for the operator and each service, and write each service's file.

    Args:
        directory: gets `<service>.json`, 0600; made 0700.
        calls: each service → whom it may ask.
    """
    keys = {name: new_key() for name in ("operator", *calls)}
    public = {name: key.public for name, key in keys.items()}
    allowed = {name: tuple(callees) for name, callees in calls.items()}
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)  # one that was there already keeps its mode
    for name in calls:
        content = IdentityFile(project, keys[name].private, keys[name].kid, public, allowed)
        path = directory / f"{name}.json"
        temporary = path.with_suffix(".new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.fchmod(descriptor, 0o600)  # likewise a file that a kill left behind
        with os.fdopen(descriptor, "wb") as file:
            file.write(codec.encode(content))
        temporary.replace(path)
    return Operator(keys)
