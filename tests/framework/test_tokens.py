"""Forged tokens: whatever is shown, the answer is a refusal and never another error."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mesh import clock, tokens
from mesh.errors import Forbidden, MeshError, Unauthenticated
from mesh.framework.identity import KeySet, bearer_of, keep_keys
from tests.framework.server import CALLS, PROJECT, Shelf, identity_of, served
from tests.services.in_process import room

if TYPE_CHECKING:
    from collections.abc import Callable

    from mesh.framework.identity import Identity

SERVICES = ("auth", "user", "order", "stranger", "shelf")


def part(value: object) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class Forge:
    """Everything an attacker may hold: public keys, a key of his own, and one service's key."""

    def __init__(self, mesh: tokens.Operator, issuer: tokens.SigningKey) -> None:
        self.order = mesh._keys["order"]
        self.operator = mesh._keys["operator"]
        self.auth = mesh._keys["auth"]
        self.stranger = mesh._keys["stranger"]
        self.issuer = issuer
        self.own = tokens.new_key()
        self.now_s = clock.now_ms() // 1000

    def head(self, key: tokens.SigningKey, typ: str = tokens.SERVICE_TOKEN, **more: object):
        return {"alg": "EdDSA", "typ": typ, "kid": key.kid} | more

    def claims(self, iss: str = "order", aud: str = "shelf", **more: object):
        said = {
            "iss": iss,
            "sub": iss,
            "aud": aud,
            "iat": self.now_s,
            "exp": self.now_s + 60,
        } | more
        return {name: value for name, value in said.items() if value is not ...}

    def user_claims(self, **more: object):
        return self.claims("auth", PROJECT, sub="usr_1", sid="ses_1", roles=["admin"]) | more

    def signed(self, key: tokens.SigningKey, head: object, claims: object) -> str:
        text = f"{part(head)}.{part(claims)}"
        private = Ed25519PrivateKey.from_private_bytes(key.private)
        return f"{text}.{part(private.sign(text.encode()))}"

    def service(self, **more: object) -> str:
        """Signed with order's own key, as order could."""
        return self.signed(self.order, self.head(self.order), self.claims(**more))

    def service_head(self, **more: object) -> str:
        return self.signed(self.order, self.head(self.order) | more, self.claims())

    def user(self, **more: object) -> str:
        """Signed with the key of users' tokens: what only auth could do, with one thing wrong."""
        head = self.head(self.issuer, tokens.USER_TOKEN)
        return self.signed(self.issuer, head, self.user_claims() | more)

    def user_head(self, **more: object) -> str:
        head = self.head(self.issuer, tokens.USER_TOKEN) | more
        return self.signed(self.issuer, head, self.user_claims())

    def unsigned(self, alg: str, claims: object, signature: str = "") -> str:
        head = self.head(self.issuer, tokens.USER_TOKEN, alg=alg)
        return f"{part(head)}.{part(claims)}.{signature}"

    def hs256(self, key: tokens.SigningKey, typ: str, claims: object, secret: bytes) -> str:
        text = f"{part(self.head(key, typ, alg='HS256'))}.{part(claims)}"
        return f"{text}.{part(hmac.digest(secret, text.encode(), hashlib.sha256))}"

    def x(self, key: tokens.SigningKey) -> bytes:
        return tokens.public_key(key.public).public_bytes_raw()

    def changed(self, token: str, place: int, value: str) -> str:
        parts = token.split(".")
        parts[place] = value
        return ".".join(parts)

    def jwk(self) -> dict[str, str]:
        return tokens.jwk(self.own.kid, self.own.public)


def _own_jwk(f: Forge) -> str:
    head = f.head(f.own, tokens.USER_TOKEN, jwk=f.jwk())
    return f.signed(f.own, head, f.user_claims())


def _operator_by_order(f: Forge) -> str:
    return f.signed(f.order, f.head(f.order, tokens.OPERATOR_TOKEN), f.claims("operator"))


def _raw_header(f: Forge, raw: bytes) -> str:
    return f.signed(f.order, raw, f.claims())


def _raw_payload(f: Forge, raw: bytes) -> str:
    return f.signed(f.order, f.head(f.order), raw)


def _doubled_header(f: Forge) -> str:
    kid = f.order.kid
    raw = f'{{"alg":"EdDSA","alg":"none","typ":"svc+jwt","kid":"{kid}"}}'
    return _raw_header(f, raw.encode())


def _doubled_issuer(f: Forge) -> str:
    said = json.dumps(f.claims())[:-1] + ',"iss":"operator"}'
    return _raw_payload(f, said.encode())


def _doubled_audience(f: Forge) -> str:
    said = json.dumps(f.claims())[:-1] + ',"aud":"auth"}'
    return _raw_payload(f, said.encode())


FORGED: dict[str, Callable[[Forge], str]] = {
    # the algorithm
    "alg none": lambda f: f.unsigned("none", f.user_claims()),
    "alg None": lambda f: f.unsigned("None", f.user_claims()),
    "alg nOnE with a signature": lambda f: f.unsigned("nOnE", f.user_claims(), part(b"x" * 64)),
    "EdDSA without signature": lambda f: f.unsigned("EdDSA", f.user_claims()),
    "HS256 with auth's raw key": lambda f: f.hs256(
        f.issuer, tokens.USER_TOKEN, f.user_claims(), f.x(f.issuer)
    ),
    "HS256 with auth's x": lambda f: f.hs256(
        f.issuer, tokens.USER_TOKEN, f.user_claims(), f.issuer.public.encode()
    ),
    "HS256 with order's key": lambda f: f.hs256(
        f.order, tokens.SERVICE_TOKEN, f.claims(), f.x(f.order)
    ),
    "HS256 with the operator's key": lambda f: f.hs256(
        f.operator, tokens.OPERATOR_TOKEN, f.claims("operator"), f.x(f.operator)
    ),
    "alg RS256": lambda f: f.user_head(alg="RS256"),
    "alg ES256": lambda f: f.service_head(alg="ES256"),
    "alg Ed25519": lambda f: f.user_head(alg="Ed25519"),
    "alg missing": lambda f: f.signed(f.order, {"typ": "svc+jwt", "kid": "k"}, f.claims()),
    "alg a list": lambda f: f.service_head(alg=["EdDSA"]),
    "alg null": lambda f: f.service_head(alg=None),
    # the kind
    "typ JWT": lambda f: f.user_head(typ="JWT"),
    "typ missing": lambda f: f.signed(f.order, {"alg": "EdDSA", "kid": "k"}, f.claims()),
    "typ null": lambda f: f.service_head(typ=None),
    "typ a number": lambda f: f.service_head(typ=1),
    "typ in capitals": lambda f: f.service_head(typ="SVC+JWT"),
    "typ with its tree": lambda f: f.service_head(typ="application/svc+jwt"),
    "a user's as a service's": lambda f: f.user_head(typ=tokens.SERVICE_TOKEN),
    "a user's as the operator's": lambda f: f.user_head(typ=tokens.OPERATOR_TOKEN),
    "a service's as a user's": lambda f: f.service_head(typ=tokens.USER_TOKEN),
    "a service's as the operator's": lambda f: f.service_head(typ=tokens.OPERATOR_TOKEN),
    "the operator's as a service's": lambda f: f.signed(
        f.operator, f.head(f.operator), f.claims("operator")
    ),
    "the operator's as a user's": lambda f: f.signed(
        f.operator, f.head(f.operator, tokens.USER_TOKEN), f.user_claims()
    ),
    # the issuer and the key
    "the operator, signed by order": _operator_by_order,
    "another service, signed by order": lambda f: f.signed(
        f.order, f.head(f.order), f.claims("user")
    ),
    "another service with its kid, signed by order": lambda f: f.signed(
        f.order, f.head(f.auth), f.claims("auth")
    ),
    "a user, signed by order with auth's kid": lambda f: f.signed(
        f.order, f.head(f.issuer, tokens.USER_TOKEN), f.user_claims()
    ),
    "a user, signed with auth's key of a service": lambda f: f.signed(
        f.auth, f.head(f.auth, tokens.USER_TOKEN), f.user_claims()
    ),
    "a user, signed by a stranger": lambda f: f.signed(
        f.own, f.head(f.own, tokens.USER_TOKEN), f.user_claims()
    ),
    "order, signed by a stranger": lambda f: f.signed(f.own, f.head(f.order), f.claims()),
    "an unknown service": lambda f: f.signed(f.own, f.head(f.own), f.claims("nobody")),
    "a caller that is not in calls": lambda f: f.signed(
        f.stranger, f.head(f.stranger), f.claims("stranger")
    ),
    "iss of another": lambda f: f.user(iss="order"),
    "iss missing": lambda f: f.service(iss=...),
    "iss null": lambda f: f.service(iss=None),
    "iss a list": lambda f: f.service(iss=["order"]),
    "iss an object": lambda f: f.user(iss={"auth": 1}),
    "iss empty": lambda f: f.service(iss=""),
    "iss huge": lambda f: f.service(iss="order" * 500),
    "kid unknown": lambda f: f.user_head(kid="unknown"),
    "kid empty": lambda f: f.user_head(kid=""),
    "kid null": lambda f: f.user_head(kid=None),
    "kid a number": lambda f: f.user_head(kid=7),
    "kid a list": lambda f: f.user_head(kid=[]),
    "kid a path": lambda f: f.user_head(kid="../../../dev/null"),
    "kid SQL": lambda f: f.user_head(kid="' OR 1=1 --"),
    # headers that name a key
    "jwk of its own": _own_jwk,
    "jwk": lambda f: f.user_head(jwk=f.jwk()),
    "jku": lambda f: f.user_head(jku="http://127.0.0.1:1/keys"),
    "x5u": lambda f: f.service_head(x5u="http://127.0.0.1:1/keys"),
    "x5c": lambda f: f.user_head(x5c=["MIIB"]),
    "crit": lambda f: f.user_head(crit=["exp"]),
    "crit unknown": lambda f: f.service_head(crit=["x"], x=1),
    "crit empty": lambda f: f.service_head(crit=[]),
    "b64 false": lambda f: f.service_head(b64=False, crit=["b64"]),
    "b64 false without crit": lambda f: f.service_head(b64=False),
    # the audience
    "aud of another service": lambda f: f.service(aud="auth"),
    "aud of another project": lambda f: f.user(aud="other"),
    "aud the service, of a user's": lambda f: f.user(aud="shelf"),
    "aud the project, of a service's": lambda f: f.service(aud=PROJECT),
    "aud a list": lambda f: f.service(aud=["shelf"]),
    "aud a list of many": lambda f: f.user(aud=[PROJECT, "other"]),
    "aud missing": lambda f: f.service(aud=...),
    "aud null": lambda f: f.service(aud=None),
    "aud empty": lambda f: f.service(aud=""),
    "aud a number": lambda f: f.user(aud=1),
    # times
    "expired": lambda f: f.user(exp=f.now_s - 60, iat=f.now_s - 120),
    "expired, of a service": lambda f: f.service(exp=f.now_s - 11),
    "a user's for longer than ten minutes": lambda f: f.user(exp=f.now_s + tokens.ACCESS_S + 1),
    "a user's for ever": lambda f: f.user(exp=2**40),
    "a service's for longer than a minute": lambda f: f.service(exp=f.now_s + 61),
    "a service's of a minute, made long ago": lambda f: f.service(
        iat=f.now_s - 3600, exp=f.now_s + 60
    ),
    "exp missing": lambda f: f.service(exp=...),
    "exp null": lambda f: f.service(exp=None),
    "exp text": lambda f: f.service(exp="tomorrow"),
    "exp a number as text": lambda f: f.service(exp=str(f.now_s + 60)),
    "exp a list": lambda f: f.service(exp=[f.now_s + 60]),
    "exp an object": lambda f: f.user(exp={}),
    "exp infinite": lambda f: f.service(exp=float("inf")),
    "exp NaN": lambda f: f.service(exp=float("nan")),
    "exp 0": lambda f: f.user(exp=0),
    "exp negative": lambda f: f.user(exp=-1),
    "iat in the future": lambda f: f.user(iat=f.now_s + 60),
    "iat missing": lambda f: f.service(iat=...),
    "iat a list": lambda f: f.service(iat=[]),
    "iat infinite": lambda f: f.user(iat=float("inf")),
    "nbf in the future": lambda f: f.user(nbf=f.now_s + 60),
    "nbf an object": lambda f: f.service(nbf={}),
    "nbf infinite": lambda f: f.service(nbf=float("inf")),
    # other claims
    "sub missing": lambda f: (
        f.user()
        and f.signed(
            f.issuer,
            f.head(f.issuer, tokens.USER_TOKEN),
            {k: v for k, v in f.user_claims().items() if k != "sub"},
        )
    ),
    "sub a number": lambda f: f.user(sub=1),
    "sub null": lambda f: f.user(sub=None),
    "sub a list": lambda f: f.service(sub=["order"]),
    "roles text": lambda f: f.user(roles="admin"),
    "roles an object": lambda f: f.user(roles={"admin": True}),
    "roles with a number": lambda f: f.user(roles=["customer", 1]),
    "roles null": lambda f: f.user(roles=None),
    "sid a number": lambda f: f.user(sid=1),
    # the form
    "alg doubled": _doubled_header,
    "iss doubled": _doubled_issuer,
    "aud doubled": _doubled_audience,
    "header a list": lambda f: _raw_header(f, b"[]"),
    "header a number": lambda f: _raw_header(f, b"7"),
    "header null": lambda f: _raw_header(f, b"null"),
    "header no JSON": lambda f: _raw_header(f, b"{"),
    "header no UTF-8": lambda f: _raw_header(f, b'{"alg":"\xff"}'),
    "header deep": lambda f: _raw_header(f, b'{"a":' * 500),
    "payload a list": lambda f: _raw_payload(f, b"[]"),
    "payload a text": lambda f: _raw_payload(f, b'"x"'),
    "payload null": lambda f: _raw_payload(f, b"null"),
    "payload empty": lambda f: _raw_payload(f, b""),
    "payload no UTF-8": lambda f: _raw_payload(f, b'{"iss":"\xff"}'),
    "payload deep": lambda f: _raw_payload(f, b"[" * 2500),
    "payload with endless digits": lambda f: _raw_payload(f, b'{"exp":' + b"9" * 2500 + b"}"),
    "payload changed": lambda f: f.changed(f.user(), 1, part(f.user_claims(sub="usr_2"))),
    "header changed": lambda f: f.changed(f.service(), 0, part(f.head(f.order, x=1))),
    "signature of zeros": lambda f: f.changed(f.user(), 2, part(bytes(64))),
    "signature short": lambda f: f.changed(f.user(), 2, part(b"x" * 63)),
    "signature long": lambda f: f.user() + "AAAA",
    "signature gone": lambda f: f.changed(f.service(), 2, ""),
    "padding": lambda f: f.user() + "==",
    "padding in the header": lambda f: f.user().replace(".", "=.", 1),
    "garbage in the signature": lambda f: f.user() + "!",
    "garbage that a lenient decoder drops": lambda f: f.user() + "!!!!",
    "a space inside": lambda f: f.changed(f.user(), 2, " " + f.user().split(".")[2]),
    "a line end behind": lambda f: f.user() + "\n",
    "standard alphabet": lambda f: f.user() + "+/",
    "one part": lambda f: f.user().split(".")[0],
    "two parts": lambda f: f.user().rsplit(".", 1)[0],
    "four parts": lambda f: f.user() + ".x",
    "five parts": lambda f: "a.b.c.d.e",
    "dots": lambda f: "..",
    "nothing": lambda f: "",
    "garbage": lambda f: "garbage",
    "NUL": lambda f: "\0.\0.\0",
    "not ASCII": lambda f: f.changed(f.user(), 1, "é"),
    "Arabic": lambda f: "توكن.توكن.توكن",
    "lone surrogates": lambda f: "\udcff.\udcff.\udcff",
    "a surrogate behind": lambda f: f.user() + "\udc80",
    "huge": lambda f: f.user(note="x" * 5000),
    "3 MB": lambda f: "a" * 3_000_000,
    "3 MB of dots": lambda f: "." * 3_000_000,
    "a JWS in JSON": lambda f: json.dumps({"protected": part(f.head(f.order)), "payload": "e30"}),
}


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("tokens")


@pytest.fixture(scope="module")
def forge(directory) -> Forge:
    return Forge(
        tokens.provision(directory / "keys", project=PROJECT, calls=CALLS), tokens.new_key()
    )


class _Away:
    """Stands where the client is: auth does not answer."""

    async def ask(self, *_):
        raise MeshError


async def _identity(directory, forge: Forge, name: str) -> Identity:
    """An identity that knows auth's keys; the database is closed again, since it is kept."""
    who = identity_of(directory / "keys", name)
    async with room(Shelf().service, directory / name) as place:
        await place.transact(
            keep_keys, KeySet((tokens.jwk(forge.issuer.kid, forge.issuer.public),))
        )
        who.attach(_Away(), place.database)
    return who


@pytest.fixture
async def shelf(directory, forge) -> Identity:
    return await _identity(directory, forge, "shelf")


async def test_forged_tokens_are_refused_each_of_them(shelf, forge):
    outcomes = {}
    for name, make in FORGED.items():
        try:
            outcomes[name] = await shelf.verify(make(forge))
        except (Unauthenticated, Forbidden):
            continue
        except Exception as error:  # noqa: BLE001  which error escapes is the evidence
            outcomes[name] = error
    assert outcomes == {}
    assert not shelf._verified


LEFT_TO_ALL = {400, 401, 403, 431}
"""Malformed and oversized heads are no business of tokens; 403: genuine, of who may not ask."""


async def test_forged_tokens_are_refused_at_the_door_and_none_breaks_it(tmp_path):
    async with served(tmp_path) as server:
        forge = Forge(server.operator, server.issuer)
        statuses = {}
        for name, make in FORGED.items():
            bearer = make(forge).encode("utf-8", "surrogateescape")
            head = f"GET /things/a HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n".encode()
            sent = head + b"Authorization: Bearer " + bearer + b"\r\n\r\n"
            statuses[name] = (await server.raw(sent)).status
    assert {name: code for name, code in statuses.items() if code not in LEFT_TO_ALL} == {}
    assert list(statuses.values()).count(401) >= 40
    assert [name for name, code in statuses.items() if code == 403] == [
        "a caller that is not in calls"
    ]


def test_forgeries_are_each_another_and_as_many_as_promised(forge):
    assert len({make(forge) for make in FORGED.values()}) == len(FORGED) >= 40


async def test_genuine_tokens_are_taken_so_that_forgeries_fail_for_what_is_forged(shelf, forge):
    user = await shelf.verify(forge.user())
    assert (user.kind, user.id, user.roles, user.session) == ("user", "usr_1", ("admin",), "ses_1")
    service = await shelf.verify(forge.service())
    assert (service.kind, service.id, service.roles) == ("service", "order", ())
    head = forge.head(forge.operator, tokens.OPERATOR_TOKEN)
    operator = await shelf.verify(forge.signed(forge.operator, head, forge.claims("operator")))
    assert (operator.kind, operator.id) == ("operator", "operator")


async def test_service_gains_nothing_by_claiming_roles_or_a_session(shelf, forge):
    caller = await shelf.verify(forge.service(roles=["admin"], sid="ses_1", sub="usr_1"))
    assert (caller.kind, caller.id, caller.roles, caller.session) == ("service", "order", (), "")


async def test_caller_is_forbidden_with_a_hint_when_calls_does_not_name_the_callee(shelf, forge):
    with pytest.raises(Forbidden) as caught:
        await shelf.verify(FORGED["a caller that is not in calls"](forge))
    assert caught.value.hint == "add `shelf` to `calls:` of stranger"


@pytest.mark.parametrize("callee", SERVICES)
async def test_each_kind_of_token_is_good_for_whom_it_is_meant(directory, forge, callee):
    who = await _identity(directory, forge, callee)

    async def outcome(token: str) -> str:
        try:
            return (await who.verify(token)).kind
        except MeshError as error:
            return type(error).__name__

    expected = {"user": "Unauthenticated" if callee == "auth" else "user"}
    shown = {"user": forge.user()}
    for audience in SERVICES:
        operator = forge.claims("operator", audience)
        head = forge.head(forge.operator, tokens.OPERATOR_TOKEN)
        shown[f"operator for {audience}"] = forge.signed(forge.operator, head, operator)
        right = audience == callee
        expected[f"operator for {audience}"] = "operator" if right else "Unauthenticated"
        for caller, key in (
            ("order", forge.order),
            ("auth", forge.auth),
            ("stranger", forge.stranger),
        ):
            name = f"{caller} for {audience}"
            shown[name] = forge.signed(key, forge.head(key), forge.claims(caller, audience))
            allowed = "service" if callee in CALLS[caller] else "Forbidden"
            expected[name] = allowed if right else "Unauthenticated"
    assert {name: await outcome(token) for name, token in shown.items()} == expected


@pytest.mark.parametrize(
    ("header", "token"),
    [(None, None), ("Bearer a.b.c", "a.b.c"), ("bearer a.b.c", "a.b.c"), ("BEARER  a ", "a")],
)
def test_bearer_is_the_token_of_the_header(header, token):
    assert bearer_of(header) == token


def test_operator_mints_in_no_unknown_name(directory, forge):
    operator = tokens.Operator({"operator": forge.operator})
    with pytest.raises(Forbidden):
        operator.token("nobody", "shelf")


@pytest.mark.parametrize("x", ["", "AAAA", "é", "!" * 43, "A" * 44, "\udcff"])
def test_public_key_is_refused_when_it_is_none(x):
    with pytest.raises(MeshError):
        tokens.public_key(x)
