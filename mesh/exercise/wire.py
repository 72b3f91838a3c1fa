"""Requests of visitors over HTTP, each counted and written down, with how sure its end is.

A refused connection has done nothing; a cut or late answer is unknown; so is a 5xx, unless it says
that it was refused before its work began. With patience a visitor asks again, with the same key.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Self
from urllib.parse import quote, urlencode

import aiohttp

from mesh import clock
from mesh.exercise.scenario import Answer, VisitOver

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mesh.exercise.history import End, Recorder
    from mesh.exercise.scenario import Ask
    from mesh.exercise.tally import Tally

ANSWER_S = 5.0
"""For one answer: longer than any operation's own deadline of 2 s, so that its own no is heard."""

CONNECTIONS_MAX = 512
"""To one service: as many as it takes; beyond them visitors wait, and that time is counted."""

TOKEN_S = 240.0
"""A token is renewed after this; it lives for ten minutes."""

TOKEN_LIFE_S = 540.0
"""Until then an old one is shown where no new one can be had."""

AGAIN_S = (0.05, 0.5)
"""Between two tries of a patient visitor, drawn anew each time."""

UNAUTHORIZED, THROTTLED, FAILED_FROM, BROKEN_FROM = 401, 429, 400, 500

RUNNING = "request-running"
"""The code of a 409 that is no answer: an earlier try of the same key is being answered."""

NOT_BEGUN = frozenset({"fault-injected", "overloaded"})
"""Codes of a 5xx that was refused before any work."""


class Refusal(Exception):
    """One try was not answered as it should be: `kind` for a person, and how sure its end is."""

    def __init__(self, kind: str, end: End, *, again: bool) -> None:
        """`again`: whether a patient visitor tries once more."""
        super().__init__(kind)
        self.kind = kind
        self.end: End = end
        self.again = again


class Wire:
    """The one connection pool of a run."""

    def __init__(
        self,
        urls: Mapping[str, str],
        token: Callable[[str], str],
        recorder: Recorder,
        tally: Tally,
        *,
        patience_s: float,
    ) -> None:
        """Not open yet.

        Args:
            urls: where each service is; asked again whenever one cannot be reached.
            token: gets one for a login, and may wait meanwhile.
            patience_s: for how long a request is repeated, 0 never.
        """
        self.urls = dict(urls)
        self._get_token = token
        self._recorder = recorder
        self._tally = tally
        self._patience_s = patience_s
        self._tokens: dict[str, tuple[float, str]] = {}
        self._asking: dict[str, asyncio.Lock] = {}
        self._session: aiohttp.ClientSession | None = None
        self.begun_s = 0.0

    async def __aenter__(self) -> Self:
        """Open; the run's clock begins with it."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, limit_per_host=CONNECTIONS_MAX),
            timeout=aiohttp.ClientTimeout(total=ANSWER_S),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        self.begun_s = clock.monotonic_s()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close."""
        if self._session is not None:
            await self._session.close()

    async def perform(self, ask: Ask) -> Answer:
        """Ask until there is an answer that will do, or patience ends. Raises: VisitOver."""
        until_s = clock.monotonic_s() + self._patience_s
        label = ask.route.label
        while True:
            sent_s = clock.monotonic_s()
            try:
                answer = await self._try(ask)
            except Refusal as refusal:
                self._tally.kinds[label, refusal.kind] += 1
                safe = ask.route.method in {"GET", "PUT", "DELETE"}
                may_repeat = safe or ask.repeat or ask.key is not None
                last = clock.monotonic_s() >= until_s or not (refusal.again and may_repeat)
                if last:
                    outcome = "unknown" if refusal.end == "unknown" else "failed"
                    self._end(ask, outcome, sent_s)
                    raise VisitOver from None
                self._tally.of(label).again += 1
                await asyncio.sleep(clock.uniform(*AGAIN_S))
            except asyncio.CancelledError:
                self._end(ask, "unknown", sent_s)
                self._tally.kinds[label, "the run ended"] += 1
                raise
            else:
                self._end(ask, "ok" if answer.ok else "refused", sent_s)
                if not answer.ok:
                    self._tally.kinds[label, f"refused {answer.status}"] += 1
                return answer

    def _end(self, ask: Ask, outcome: str, sent_s: float) -> None:
        now_s = clock.monotonic_s()
        at_s = now_s - self.begun_s
        due_ms = (now_s - ask.due_s) * clock.MS_PER_S
        sent_ms = (now_s - sent_s) * clock.MS_PER_S
        self._tally.end(ask.route.label, outcome, at_s, due_ms, sent_ms)

    async def _try(self, ask: Ask) -> Answer:
        """One request, written down whole. Raises: Refusal."""
        bearer = ask.bearer or (None if ask.by is None else await self._token(ask.by))
        by = ask.by if ask.bearer is None else None
        call = self._recorder.invoke(ask, self._now_ms(), by)
        status, body, end = 0, None, "unknown"
        try:
            status, body = await self._send(ask, bearer)
            end = _end_of(status, body)
        except aiohttp.ClientConnectorError:
            end = "fail"
            raise Refusal("connection refused", "fail", again=True) from None
        except TimeoutError:
            raise Refusal("no answer in time", "unknown", again=True) from None
        except (aiohttp.ClientError, OSError):
            raise Refusal("cut off", "unknown", again=True) from None
        finally:
            self._recorder.end(call, ask, self._now_ms(), end, status, body, by)  # type: ignore[arg-type]  # one of three
        code = body.get("code") or body.get("title") if isinstance(body, dict) else None
        if status < FAILED_FROM or (status in ask.refusals and code != RUNNING):
            return Answer(status, body if isinstance(body, dict) else {})
        if status == UNAUTHORIZED and ask.by is not None:
            self._tokens.pop(ask.by, None)
        again = status >= BROKEN_FROM or status in {UNAUTHORIZED, THROTTLED} or code == RUNNING
        kind = f"{status} {code}" if code else str(status)
        raise Refusal(kind, _end_of(status, body), again=again)

    async def _send(self, ask: Ask, bearer: str | None) -> tuple[int, object]:
        assert self._session is not None
        method, url, body = request(ask, self.urls.get(ask.route.service, ""))
        headers = {"Accept": "application/json"}
        if bearer is not None:
            headers["Authorization"] = f"Bearer {bearer}"
        if ask.key is not None:
            headers["Idempotency-Key"] = ask.key
        data = None
        if body is not None:
            data = json.dumps(body, separators=(",", ":")).encode()
            headers["Content-Type"] = "application/json"
        async with self._session.request(method, url, data=data, headers=headers) as response:
            raw = await response.read()
        try:
            return response.status, json.loads(raw) if raw else None
        except ValueError:
            return response.status, None

    async def _token(self, login: str) -> str:
        """A token of that user, renewed in time. Raises: Refusal."""
        made_s, token = self._tokens.get(login, (0.0, ""))
        if token and clock.monotonic_s() - made_s < TOKEN_S:
            return token
        async with self._asking.setdefault(login, asyncio.Lock()):
            made_s, token = self._tokens.get(login, (0.0, ""))
            age_s = clock.monotonic_s() - made_s
            if token and age_s < TOKEN_S:
                return token
            try:
                new = await asyncio.to_thread(self._get_token, login)
            except Exception as error:
                if token and age_s < TOKEN_LIFE_S:
                    return token
                raise Refusal(f"no token for {login}", "fail", again=True) from error
            self._tokens[login] = clock.monotonic_s(), new
            return new

    async def warm(self, logins: list[str]) -> None:
        """Get a token for each of them before the run begins."""
        for login in logins:
            with contextlib.suppress(Refusal):
                await self._token(login)
        self.begun_s = clock.monotonic_s()

    def _now_ms(self) -> float:
        return round((clock.monotonic_s() - self.begun_s) * clock.MS_PER_S, 3)


def _end_of(status: int, body: object) -> End:
    """What a status says of whether it happened."""
    if status < FAILED_FROM:
        return "ok"
    code = body.get("code") if isinstance(body, dict) else None
    return "fail" if status < BROKEN_FROM or code in NOT_BEGUN else "unknown"


def request(ask: Ask, base: str) -> tuple[str, str, object]:
    """Method, URL and body of a request; each field where the document has it."""
    route = ask.route
    places = {name: route.places[name] for name in ask.fields}
    path = route.path
    for name, place in places.items():
        if place == "path":
            path = path.replace(f"{{{name}}}", quote(str(ask.fields[name]), safe=""))
    query = {name: _plain(ask.fields[name]) for name, place in places.items() if place == "query"}
    body = {name: ask.fields[name] for name, place in places.items() if place == "body"}
    target = f"{base}{path}?{urlencode(query)}" if query else f"{base}{path}"
    return route.method, target, body if route.takes_body else None


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
