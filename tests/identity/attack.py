"""What is done to the identities of a running shop, and what came of it: figures, no verdicts."""

from __future__ import annotations

import http.client
import json
import math
import statistics
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mesh.orchestrator.remote import Remote
from tests.support.running import PASSWORD, Answer, eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.support.running import RunningMesh

TRIES_A_SOURCE = 4
"""Fewer than a login or a source may fail: what is measured is the hash, not the throttle."""

LOOK_S = 60.0
PAUSE_S = 0.02
"""Between two uses of a token by one user: some 100 requests a second of both together."""


def source(n: int) -> str:
    """One of the many addresses that this machine has."""
    return f"127.0.{n // 250 + 1}.{n % 250 + 1}"


def post(
    mesh: RunningMesh, service: str, path: str, body: object, *, come_from: str = "127.0.0.1"
) -> Answer:
    """One POST from an address of one's choice; its body is the raw text."""
    parts = urlsplit(mesh.url(service))
    connection = http.client.HTTPConnection(
        str(parts.hostname), parts.port, timeout=60, source_address=(come_from, 0)
    )
    try:
        connection.request(
            "POST", path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        response = connection.getresponse()
        return Answer(response.status, dict(response.headers), response.read().decode())
    finally:
        connection.close()


def login(
    mesh: RunningMesh, name: str, password: str = PASSWORD, come_from: str = "127.0.0.1"
) -> Answer:
    """Try to log in."""
    body = {"email": f"{name}@shop.example", "password": password}
    return post(mesh, "user", "/sessions", body, come_from=come_from)


def session(mesh: RunningMesh, name: str) -> dict[str, Any]:
    """A session of a user without a password, as the operator opens it."""
    token = Remote.find(mesh.directory / "data").token("operator", "user")
    login_of = {"login": name}
    answer = mesh.ask("user", "POST", "/sessions/act-as", login_of, token=token)
    assert answer.status == 201, answer
    return dict(answer.body)


def operate(mesh: RunningMesh, method: str, path: str) -> Any:
    """What the operator asks of auth."""
    token = Remote.find(mesh.directory / "data").token("operator", "auth")
    answer = mesh.ask("auth", method, path, {} if method == "POST" else None, token=token)
    assert answer.status == 200, answer
    return answer.body


# ── time and form of a refusal ───────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Timing:
    """Milliseconds of refused logins, of a known and of unknown e-mails, asked in turn."""

    known: list[float]
    unknown: list[float]
    forms: int
    """Different answers seen, but for the trace and the date."""

    @property
    def difference_ms(self) -> float:
        """Between the medians."""
        return statistics.median(self.known) - statistics.median(self.unknown)

    @property
    def p(self) -> float:
        """That they come from one distribution: Mann-Whitney, normal approximation."""
        ranks = sorted([(ms, 0) for ms in self.known] + [(ms, 1) for ms in self.unknown])
        of_known = sum(rank for rank, (_, which) in enumerate(ranks, 1) if which == 0)
        n, m = len(self.known), len(self.unknown)
        u = of_known - n * (n + 1) / 2
        z = (u - n * m / 2) / math.sqrt(n * m * (n + m + 1) / 12)
        return math.erfc(abs(z) / math.sqrt(2))


def _form(answer: Answer) -> str:
    body = json.loads(answer.body)
    body.pop("trace_id")
    names = sorted(name for name in answer.headers if name.lower() not in {"date", "traceparent"})
    return json.dumps([answer.status, body, names])


def timing(mesh: RunningMesh, each: int) -> Timing:
    """Refuse `each` logins of either kind, a known one and an unknown one in turn."""
    known: list[float] = []
    unknown: list[float] = []
    forms = set()
    for n in range(each):
        come_from = source(n // TRIES_A_SOURCE)
        for name, found in (("alice", known), (f"nobody-{n}", unknown)):
            begun = time.perf_counter()
            answer = login(mesh, name, "not the password", come_from)
            found.append((time.perf_counter() - begun) * 1000)
            forms.add(_form(answer))
    return Timing(known, unknown, len(forms))


# ── guesses ──────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Guesses:
    """How guesses were answered, and logins of another user meanwhile."""

    statuses: Counter[int]
    others: Counter[int]

    @property
    def hashed(self) -> int:
        """Those that were looked at: every other answer comes before the hash."""
        return self.statuses[401]


def guesses(mesh: RunningMesh, count: int, lasting_s: float) -> Guesses:
    """Guess at alice's password from one address, spread over that time; bob logs in from there."""
    begun = time.monotonic()

    def guess(n: int) -> int:
        time.sleep(max(0.0, begun + lasting_s * n / count - time.monotonic()))
        return login(mesh, "alice", f"guess number {n}").status

    others: Counter[int] = Counter()
    with ThreadPoolExecutor(20) as pool:
        asked = [pool.submit(guess, n) for n in range(count)]
        for _ in range(10):
            others[login(mesh, "bob").status] += 1
            time.sleep(lasting_s / 12)
        return Guesses(Counter(one.result() for one in asked), others)


# ── refresh ──────────────────────────────────────────────────────────────────────────────────


def refreshes(mesh: RunningMesh, at_once: int) -> Counter[int]:
    """Show one refresh token many times at once; how it was answered."""
    body = {"refresh_token": session(mesh, "bob")["refresh_token"]}
    with ThreadPoolExecutor(at_once) as pool:
        asked = [pool.submit(post, mesh, "auth", "/tokens/refresh", body) for _ in range(at_once)]
        return Counter(one.result().status for one in asked)


# ── what ends ────────────────────────────────────────────────────────────────────────────────


LOOKS = (("user", "/users/me"), ("order", "/orders"))
"""Where tokens are shown."""


def look(mesh: RunningMesh, token: str) -> list[int]:
    """How each service answers to this token."""
    return [mesh.ask(service, "GET", path, token=token).status for service, path in LOOKS]


def until_ended_s(mesh: RunningMesh, token: str) -> float:
    """Seconds until no service takes this token any more."""
    begun = time.monotonic()
    eventually(lambda: set(look(mesh, token)) == {401}, within_s=LOOK_S)
    return time.monotonic() - begun


def endings(mesh: RunningMesh, times: int) -> dict[str, list[float]]:
    """Seconds from the answer to what ends a session until its token is refused everywhere."""
    admin = session(mesh, "ada")["access_token"]

    def logout(_: str, token: str) -> Answer:
        return mesh.ask("user", "DELETE", "/sessions/current", token=token)

    def change_password(_: str, token: str) -> Answer:
        body = {"password": PASSWORD, "new_password": PASSWORD}
        return mesh.ask("user", "PUT", "/users/me/password", body, token=token)

    def suspend(user_id: str, _: str) -> Answer:
        return mesh.ask("user", "POST", f"/users/{user_id}/suspend", token=admin)

    def erase(user_id: str, _: str) -> Answer:
        return mesh.ask("user", "DELETE", f"/users/{user_id}", token=admin)

    def grant(user_id: str, _: str) -> Answer:
        return mesh.ask("user", "PUT", f"/users/{user_id}/roles/staff", {}, token=admin)

    found: dict[str, list[float]] = {}
    deeds: Sequence[Callable[[str, str], Answer]] = (
        logout,
        change_password,
        grant,
        suspend,
        erase,
    )
    for deed in deeds:
        for n in range(times):
            email = f"ending-{deed.__name__}-{n}@shop.example".replace("_", "-")
            body = {"email": email, "password": PASSWORD, "display_name": "Ending"}
            made = mesh.ask("user", "POST", "/users", body)
            assert made.status == 201, made
            token = str(session(mesh, email)["access_token"])
            assert set(look(mesh, token)) == {200}
            answer = deed(str(made.body["id"]), token)
            assert answer.status in {200, 204}, (deed.__name__, answer)
            found.setdefault(deed.__name__, []).append(until_ended_s(mesh, token))
    return found


# ── keys ─────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Rotations:
    """What came of rotating keys while tokens were in use."""

    keys: int
    statuses: Counter[int]
    revoked_s: float
    """From the answer to the revocation of the key that signs until its tokens are refused."""


def rotations(mesh: RunningMesh, times: int, every_s: float) -> Rotations:
    """Rotate keys under load; every token shown is in its life. Then revoke the one that signs."""
    statuses: Counter[int] = Counter()
    over = False

    def use(name: str) -> Counter[int]:
        seen: Counter[int] = Counter()
        held = session(mesh, name)
        first = held["access_token"]
        n = 0
        while not over:
            n += 1
            if n % 10 == 0:
                renewed = post(
                    mesh, "auth", "/tokens/refresh", {"refresh_token": held["refresh_token"]}
                )
                seen[renewed.status] += 1
                held = json.loads(renewed.body)
            time.sleep(PAUSE_S)
            for token in (held["access_token"], first):
                seen.update(look(mesh, token))
        return seen

    with ThreadPoolExecutor(2) as pool:
        users = [pool.submit(use, name) for name in ("alice", "bob")]
        for _ in range(times):
            time.sleep(every_s)
            operate(mesh, "POST", "/keys/rotate")
        time.sleep(every_s)
        over = True
        for one in users:
            statuses.update(one.result())
    keys = len(mesh.ask("auth", "GET", "/.well-known/jwks.json").body["keys"])
    token = str(session(mesh, "alice")["access_token"])
    assert set(look(mesh, token)) == {200}
    signs = operate(mesh, "DELETE", f"/keys/{'0' * 16}")["kid"]
    operate(mesh, "DELETE", f"/keys/{signs}")
    return Rotations(keys, statuses, until_ended_s(mesh, token))
