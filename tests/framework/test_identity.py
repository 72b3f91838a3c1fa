"""What a verifier remembers, where it gets users' keys from, and who is let through."""

from __future__ import annotations

import asyncio
import base64
import stat

import pytest
from aiohttp import web

from mesh import clock, codec, tokens
from mesh.client import Client
from mesh.errors import Forbidden, MeshError, ServiceUnavailable, Unauthenticated
from mesh.framework import ANYONE, OPERATOR, USER, Caller, identity, roles, services
from mesh.framework.identity import (
    ANONYMOUS,
    Identity,
    KeySet,
    Revoked,
    admit,
    keep_keys,
    keep_revoked,
)
from mesh.framework.service import Allow
from tests.framework.server import CALLS, PROJECT, Shelf, identity_of, listening
from tests.services.in_process import Clock, room


class Auth:
    """auth's key set at a real socket; `away` closes each connection unanswered."""

    def __init__(self, *keys: tokens.SigningKey) -> None:
        self.keys = list(keys)
        self.away = False
        self.asked = 0

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked += 1
        if self.away:
            request.transport.abort()
            raise ConnectionResetError
        assert request.path == "/.well-known/jwks.json"
        found = KeySet(tuple(tokens.jwk(key.kid, key.public) for key in self.keys))
        return web.Response(body=codec.encode(found), content_type="application/json")


class Monotonic:
    """The monotonic clock with an offset that a test adds."""

    def __init__(self, monkeypatch) -> None:
        self.added_s = 0.0
        real = clock.monotonic_s
        monkeypatch.setattr(clock, "monotonic_s", lambda: real() + self.added_s)


@pytest.fixture
def issuer() -> tokens.SigningKey:
    return tokens.new_key()


@pytest.fixture
def provisioned(tmp_path):
    return tokens.provision(tmp_path / "keys", project=PROJECT, calls=CALLS)


@pytest.fixture
async def place(tmp_path):
    async with room(Shelf().service, tmp_path) as found:
        yield found


@pytest.fixture
async def auth(issuer):
    """auth, listening."""
    found = Auth(issuer)
    async with listening(found.answer) as port:
        found.url = f"http://127.0.0.1:{port}"
        yield found


@pytest.fixture
async def who(tmp_path, provisioned, place, auth) -> Identity:
    """An identity that has no key set yet."""
    found = identity_of(tmp_path / "keys", "shelf")
    client = Client({"auth": auth.url}, found.token)
    found.attach(client, place.database)
    yield found
    await client.close()


def user_token(
    key: tokens.SigningKey, name: str = "usr_1", *, life_s: int = 300, session: str = "ses_1"
) -> str:
    now_s = clock.now_ms() // 1000
    claims = tokens.Claims("auth", name, PROJECT, now_s, now_s + life_s, session, ("customer",))
    return tokens.sign(key, claims, typ=tokens.USER_TOKEN)


# --- remembering ----------------------------------------------------------------------------


async def test_token_is_checked_once_and_remembered(who, issuer, monkeypatch):
    token = user_token(issuer)
    first = await who.verify(token)
    checks = []
    monkeypatch.setattr(tokens, "verify", lambda *args, **_: checks.append(args))
    assert await who.verify(token) is first
    assert checks == []


async def test_remembered_token_is_refused_once_it_has_expired(who, issuer, monkeypatch):
    wall = Clock(monkeypatch)
    user, service = user_token(issuer, life_s=60), tokens.own(who._key, "shelf", "shelf")
    assert (await who.verify(user)).id == "usr_1"
    wall.forward(60 + tokens.LEEWAY_S - 2)
    assert (await who.verify(user)).id == "usr_1"
    wall.forward(4)
    for _ in range(2):
        with pytest.raises(Unauthenticated) as caught:
            await who.verify(user)
        assert caught.value.code == "token-expired"
    assert user not in who._verified
    assert service not in who._verified


async def test_no_more_tokens_are_remembered_than_the_bound(who, issuer, monkeypatch):
    monkeypatch.setattr(identity, "VERIFIED_MAX", 3)
    shown = [user_token(issuer, f"usr_{n}") for n in range(5)]
    for token in shown:
        await who.verify(token)
    assert list(who._verified) == shown[2:]
    assert (await who.verify(shown[0])).id == "usr_0"


async def test_remembered_tokens_are_checked_anew_when_the_keys_change(who, issuer, auth, place):
    token = user_token(issuer)
    await who.verify(token)
    other = tokens.new_key()
    auth.keys = [other]
    await place.transact(keep_keys, KeySet((tokens.jwk(other.kid, other.public),)))
    who.load_keys()
    with pytest.raises(Unauthenticated):
        await who.verify(token)


# --- sessions that end ----------------------------------------------------------------------


async def ending(who, place, session="ses_1", in_s=600):
    ended = Revoked(session, clock.now_ms() + in_s * 1000)
    await place.transact(keep_revoked, ended)
    who.revoke(ended)


async def test_token_is_refused_as_soon_as_its_session_has_ended(who, issuer, place):
    token, other = user_token(issuer), user_token(issuer, session="ses_2")
    await who.verify(token)
    await ending(who, place)
    assert token not in who._verified
    for _ in range(2):
        with pytest.raises(Unauthenticated) as caught:
            await who.verify(token)
        assert caught.value.code == "session-revoked"
    assert (await who.verify(other)).session == "ses_2"


async def test_ended_session_is_still_known_after_a_restart(who, issuer, place, tmp_path):
    await ending(who, place)
    fresh = identity_of(tmp_path / "keys", "shelf")
    fresh.attach(who._client, place.database)
    with pytest.raises(Unauthenticated):
        await fresh.verify(user_token(issuer))


async def test_ended_sessions_are_forgotten_when_their_tokens_are_over(who, place, monkeypatch):
    wall = Clock(monkeypatch)
    await ending(who, place, "ses_old")
    wall.forward(600 + tokens.LEEWAY_S + 1)
    await ending(who, place, "ses_new")
    assert place.database.read.all(str, "SELECT id FROM revoked_session") == ["ses_new"]


async def test_no_more_ended_sessions_are_remembered_than_the_bound(who, place, monkeypatch):
    monkeypatch.setattr(identity, "REVOKED_MAX", 3)
    for n in range(5):
        await ending(who, place, f"ses_{n}")
    assert list(who._revoked) == ["ses_2", "ses_3", "ses_4"]


async def test_service_is_not_ended_by_a_session_without_a_name(who, place, provisioned):
    await ending(who, place, "")
    assert (await who.verify(provisioned.token("order", "shelf"))).id == "order"


# --- keys -----------------------------------------------------------------------------------


async def test_keys_are_fetched_at_the_first_token_and_kept(who, issuer, auth, place):
    assert (await who.verify(user_token(issuer))).id == "usr_1"
    assert (await who.verify(user_token(issuer, "usr_2"))).id == "usr_2"
    assert auth.asked == 1
    kept = place.database.read.one(bytes, "SELECT document FROM key_set")
    assert codec.decode(kept, KeySet).keys[0]["kid"] == issuer.kid


async def test_kept_keys_verify_while_auth_is_away(who, issuer, auth, place, tmp_path):
    await who.refresh_keys()
    auth.away, auth.asked = True, 0
    fresh = identity_of(tmp_path / "keys", "shelf")
    fresh.attach(who._client, place.database)
    assert (await fresh.verify(user_token(issuer))).id == "usr_1"
    assert auth.asked == 0


async def test_unknown_key_is_fetched_for_at_most_once_per_floor(who, issuer, auth, monkeypatch):
    monotonic = Monotonic(monkeypatch)
    await who.verify(user_token(issuer))
    assert auth.asked == 1
    monotonic.added_s += identity.FETCH_FLOOR_S + 1
    shown = [user_token(tokens.new_key()) for _ in range(20)]
    found = await asyncio.gather(*map(who.verify, shown), return_exceptions=True)
    assert {type(one) for one in found} == {Unauthenticated}
    assert auth.asked == 2
    newer = tokens.new_key()
    auth.keys.append(newer)
    with pytest.raises(Unauthenticated):
        await who.verify(user_token(newer))
    monotonic.added_s += identity.FETCH_FLOOR_S + 1
    assert (await who.verify(user_token(newer))).id == "usr_1"
    assert auth.asked == 3


async def test_unknown_key_is_no_outage_when_other_keys_are_here(who, issuer, auth, monkeypatch):
    monotonic = Monotonic(monkeypatch)
    await who.verify(user_token(issuer))
    auth.away = True
    monotonic.added_s += identity.FETCH_FLOOR_S + 1
    with pytest.raises(Unauthenticated):
        await who.verify(user_token(tokens.new_key()))
    assert (await who.verify(user_token(issuer, "usr_2"))).id == "usr_2"


async def test_user_is_told_to_come_back_while_no_key_was_ever_had(who, issuer, auth, monkeypatch):
    monotonic = Monotonic(monkeypatch)
    auth.away = True
    for _ in range(3):  # also within the floor, where auth is not asked again
        with pytest.raises(ServiceUnavailable):
            await who.verify(user_token(issuer))
    tried = auth.asked
    auth.away = False
    with pytest.raises(ServiceUnavailable):
        await who.verify(user_token(issuer))
    assert auth.asked == tried
    monotonic.added_s += identity.FETCH_FLOOR_S + 1
    assert (await who.verify(user_token(issuer))).id == "usr_1"


async def test_services_are_verified_without_any_key_set(who, provisioned, auth):
    auth.away = True
    assert (await who.verify(provisioned.token("order", "shelf"))).id == "order"
    assert (await who.verify(provisioned.token("operator", "shelf"))).kind == "operator"
    assert auth.asked == 0


async def test_first_keys_are_got_in_the_background_however_long_auth_is_away(
    who, issuer, auth, monkeypatch
):
    monkeypatch.setattr(identity, "FETCH_RETRY_S", (0.01, 0.02))
    auth.away = True
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(who.get_first_keys())
        while auth.asked < 5:
            await asyncio.sleep(0.005)
        auth.away = False
    asked = auth.asked
    assert (await who.verify(user_token(issuer))).id == "usr_1"
    assert auth.asked == asked


async def test_key_set_is_asked_for_anew_at_the_start_though_one_is_kept(
    who, issuer, auth, place, tmp_path
):
    await who.refresh_keys()
    newer = tokens.new_key()
    auth.keys = [newer]
    fresh = identity_of(tmp_path / "keys", "shelf")
    fresh.attach(who._client, place.database)
    await fresh.get_first_keys()
    assert set(fresh._user_keys) == {newer.kid}


async def test_key_set_that_an_event_brought_is_not_replaced_by_an_older_answer(
    who, issuer, auth, place
):
    """A key is revoked while the answer that still names it is under way."""
    await who.refresh_keys()
    newer = tokens.new_key()
    real = who._client.ask

    async def overtaken(*asked):
        answer = await real(*asked)
        await place.transact(keep_keys, KeySet((tokens.jwk(newer.kid, newer.public),)))
        who.load_keys()
        return answer

    who._client.ask = overtaken
    await who.refresh_keys()
    assert set(who._user_keys) == {newer.kid}
    with pytest.raises(Unauthenticated):
        await who.verify(user_token(issuer))


def test_issuer_takes_no_users_tokens_and_asks_itself_nothing(tmp_path, provisioned):
    assert not identity_of(tmp_path / "keys", "auth").trusts_issuer
    assert identity_of(tmp_path / "keys", "shelf").trusts_issuer


def test_own_token_is_renewed_before_it_expires(tmp_path, provisioned, monkeypatch):
    wall, monotonic = Clock(monkeypatch), Monotonic(monkeypatch)
    who = identity_of(tmp_path / "keys", "order")
    first = who.token("shelf")
    assert who.token("shelf") == first
    assert who.token("auth") != first
    assert identity.RENEW_AFTER_S < tokens.SERVICE_TOKEN_S
    monotonic.added_s = identity.RENEW_AFTER_S + 1
    wall.forward(identity.RENEW_AFTER_S + 1)
    assert who.token("shelf") != first


# --- admission ------------------------------------------------------------------------------

CUSTOMER = Caller("user", "usr_1", ("customer",))
STAFF = Caller("user", "usr_2", ("staff",))
PLAIN = Caller("user", "usr_3")
ORDER = Caller("service", "order")
OPERATING = Caller("operator", "operator")
POSING = (
    Caller("service", "staff"),
    Caller("service", "user", ("staff",)),
    Caller("operator", "order"),
    Caller("user", "order"),
    Caller("user", "operator"),
)
EVERYBODY = (ANONYMOUS, CUSTOMER, STAFF, PLAIN, ORDER, OPERATING, *POSING)
USERS = {CUSTOMER, STAFF, PLAIN, *POSING[3:]}


@pytest.mark.parametrize(
    ("allow", "let_in"),
    [
        (Allow(), set()),
        (ANYONE, set(EVERYBODY)),
        (USER, USERS),
        (roles("staff"), {STAFF}),
        (roles("staff", "customer"), {STAFF, CUSTOMER}),
        (roles("admin"), set()),
        (services("order"), {ORDER}),
        (services("product"), set()),
        (OPERATOR, {OPERATING, POSING[2]}),
        (
            Allow(roles=("staff",), services=("order",), operator=True),
            {STAFF, ORDER, OPERATING, POSING[2]},
        ),
    ],
)
def test_admit_lets_in_exactly_who_is_named(allow, let_in):
    found = set()
    for caller in EVERYBODY:
        try:
            admit(caller, allow)
            found.add(caller)
        except Unauthenticated:
            assert caller == ANONYMOUS
        except Forbidden:
            assert caller != ANONYMOUS
    assert found == let_in


def test_subjects_of_different_callers_differ():
    subjects = {caller.subject for caller in EVERYBODY}
    assert len(subjects) == len({(caller.kind, caller.id) for caller in EVERYBODY})


def test_role_is_a_users_alone():
    assert STAFF.has("staff")
    assert not Caller("service", "order", ("staff",)).has("staff")


# --- provisioning ---------------------------------------------------------------------------


def test_provision_writes_files_that_nobody_else_can_read(tmp_path):
    directory = tmp_path / "run" / "keys"
    tokens.provision(directory, project=PROJECT, calls=CALLS)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    found = sorted(directory.iterdir())
    assert [path.name for path in found] == sorted(f"{name}.json" for name in CALLS)
    assert {stat.S_IMODE(path.stat().st_mode) for path in found} == {0o600}


def test_provision_narrows_a_directory_and_files_that_were_open(tmp_path):
    directory = tmp_path / "keys"
    directory.mkdir()
    directory.chmod(0o755)
    for name in ("shelf.json", "shelf.new"):
        (directory / name).write_text("{}")
        (directory / name).chmod(0o644)
    tokens.provision(directory, project=PROJECT, calls=CALLS)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE((directory / "shelf.json").stat().st_mode) == 0o600


def test_provision_gives_each_service_its_own_private_key_and_all_public_ones(tmp_path):
    tokens.provision(tmp_path, project=PROJECT, calls=CALLS)
    raw = {name: (tmp_path / f"{name}.json").read_bytes() for name in CALLS}
    files = {name: codec.decode(content, tokens.IdentityFile) for name, content in raw.items()}
    assert len({file.private for file in files.values()}) == len(CALLS)
    for name, content in raw.items():
        assert set(files[name].keys) == {"operator", *CALLS}
        assert files[name].calls == {caller: tuple(callees) for caller, callees in CALLS.items()}
        for other, file in files.items():
            private = base64.b64encode(file.private)
            assert (private in content) == (other == name)


def test_provision_makes_fresh_keys_each_time(tmp_path):
    first = tokens.provision(tmp_path, project=PROJECT, calls=CALLS)
    stale = first.token("order", "shelf")
    tokens.provision(tmp_path, project=PROJECT, calls=CALLS)
    who = identity_of(tmp_path, "shelf")
    with pytest.raises(MeshError):
        asyncio.run(who.verify(stale))
