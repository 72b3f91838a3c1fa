"""Requests made of the OpenAPI documents, sent to the real shop, and what must hold of each answer.

schemathesis makes the requests, right and wrong ones, and checks the answers against the document.
The loop is our own: each request needs a caller whom its operation lets in (or one it does not),
and ids that live in four services, which OpenAPI's links do not reach across.
"""

from __future__ import annotations

import contextlib
import copy
import random
import re
import time
import zlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from mesh.services.order.model import gateway_wait_s
from tests.api_fuzz.callers import ANYONE, SERVICES, Callers
from tests.api_fuzz.pool import Pool
from tests.support.machine import Machine
from tests.support.running import ADDRESS, LAMP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.running import RunningMesh

SLOW_S = 1.0
TIMEOUT_S = 20.0
BATCH = 8
"""Cases of one operation and mode at a time; shuffled with the others' before they are sent."""

KNOWN = 0.75
"""Share of requests that ask about entities there are."""

WELCOME = 0.85
"""Share of requests by somebody who may ask."""

CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
LEAKS = re.compile(rb'Traceback|sqlite|/home|File "', re.IGNORECASE)
OVERSIZED_HEAD = "Got more than"
"""aiohttp's own answer, before anything of ours has the request."""

WRONG_MAX = 20
"""Findings after which a run ends."""


@dataclass(frozen=True)
class Asked:
    """One operation of a document, without its `security`: callers are our own matter."""

    service: str
    name: str
    operation: Any
    security: list[dict[str, list[str]]]
    headers: frozenset[str]

    @property
    def label(self) -> str:
        return f"{self.service} {self.name}"


@dataclass
class Outcome:
    """What a run has found."""

    cases: int = 0
    negative: int = 0
    answered: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By operation and kind of answer: `2xx`, `4xx`."""
    slowest_s: float = 0.0
    stood_still_s: float = 0.0
    unsendable: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def reached(self) -> list[str]:
        """The operations that answered 2xx."""
        return sorted(label for label, kind in self.answered if kind == "2xx")


def operations(mesh: RunningMesh, doctor: Callable[[dict], None]) -> list[Asked]:
    """Every operation that the running services declare."""
    found = []
    for service in SERVICES:
        document = mesh.ask(service, "GET", "/openapi.json").body
        doctor(document)
        bare = copy.deepcopy(document)
        bare["components"].pop("securitySchemes")
        for rows in bare["paths"].values():
            for row in rows.values():
                row.pop("security")
        schema = schemathesis.openapi.from_dict(bare)
        schema.config.generation.allow_x00 = False  # JSON Schema cannot say it; see the corpus
        for each in schema.get_all_operations():
            operation = each.ok()
            row = document["paths"][operation.path][operation.method]
            names = frozenset(one["name"] for one in row["parameters"] if one["in"] == "header")
            found.append(Asked(service, row["operationId"], operation, row["security"], names))
    return found


def made(asked: Asked, mode: GenerationMode, count: int, number: int) -> list[Any]:
    """Cases of one operation, the same for the same number."""
    cases: list[Any] = []

    @seed(zlib.crc32(f"{asked.label} {mode.value} {number}".encode()))
    @settings(
        max_examples=count,
        phases=[Phase.generate],
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(asked.operation.as_strategy(generation_mode=mode))
    def collect(case: Any) -> None:
        cases.append(case)

    with contextlib.suppress(Unsatisfiable):  # where nothing is taken, nothing can be wrong
        collect()
    return cases


class Fuzz:
    """One run against one mesh."""

    def __init__(
        self, mesh: RunningMesh, number: int, doctor: Callable[[dict], None] = lambda _: None
    ) -> None:
        """`number` decides every request; `doctor` may change the documents that they are made of."""
        self.outcome = Outcome()
        self._doctor = doctor
        self._mesh = mesh
        self._number = number
        self._chance = random.Random(number)
        self._callers = Callers(mesh)
        self._pool = Pool()
        self._sessions = {name: requests.Session() for name in SERVICES}
        self._urls = {name: mesh.url(name) for name in SERVICES}

    def run(self, cases: int, told: Callable[[int], None] = lambda _: None) -> Outcome:
        """Send so many requests, of all operations and modes in turn."""
        found = operations(self._mesh, self._doctor)
        self._begin()
        with Machine(self._mesh.directory) as machine:
            for number, (asked, case) in enumerate(self._cases(found, cases)):
                told(number)
                self._send(asked, case, machine)
                if len(self.outcome.wrong) >= WRONG_MAX:
                    break
        for session in self._sessions.values():
            session.close()
        return self.outcome

    def _begin(self) -> None:
        """Entities of each kind, so that the first requests have something to be about."""
        token = self._callers.token("alice", "order")
        self._pool.learn(self._mesh.ask("product", "GET", "/products?page_size=20").body)
        for n in range(4):
            body = {
                "lines": [{"product_id": LAMP, "quantity": 1 + n}],
                "ship_to": ADDRESS,
            }
            answer = self._mesh.ask(
                "order",
                "POST",
                "/orders",
                body,
                token=token,
                headers={"Idempotency-Key": f"begin-{self._number}-{n}"},
            )
            self._pool.learn(answer.body)
        body = {"email": "f@shop.example", "password": "a-long-password", "display_name": "F"}
        self._pool.learn(self._mesh.ask("user", "POST", "/users", body).body)

    def _cases(self, found: list[Asked], count: int) -> Iterator[tuple[Asked, Any]]:
        sent = round_ = 0
        while sent < count:
            each = max(1, min(BATCH, (count - sent) // (2 * len(found)) + 1))
            batch = [
                (asked, case)
                for asked in found
                for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
                for case in made(asked, mode, each, self._number * 10_000 + round_)
            ]
            self._chance.shuffle(batch)
            yield from batch[: count - sent]
            sent += len(batch)
            round_ += 1

    def _send(self, asked: Asked, case: Any, machine: Machine) -> None:
        right = case.meta.generation.mode is GenerationMode.POSITIVE
        if self._chance.random() < KNOWN:
            self._make_known(asked, case, right=right)
        if case.method != "GET":
            case.path_parameters = self._pool.spared(dict(case.path_parameters or {}))
            if isinstance(case.body, dict):
                case.body = self._pool.spared(case.body)
        welcome = self._callers.welcome(asked.security)
        strangers = [who for who in self._callers.all if who not in welcome]
        anyone = ANYONE in welcome
        stranger = bool(strangers) and not anyone and self._chance.random() > WELCOME
        who = self._chance.choice(strangers if stranger else welcome)
        sent = case.as_transport_kwargs(base_url=self._urls[asked.service])
        token = self._callers.token(who, asked.service)
        sent["headers"].pop("Authorization", None)
        if token is not None:
            sent["headers"]["Authorization"] = f"Bearer {token}"
        begun_s = time.monotonic()
        try:
            response = self._sessions[asked.service].request(
                **sent, timeout=TIMEOUT_S, allow_redirects=False
            )
        except (requests.exceptions.InvalidHeader, UnicodeError, ValueError):
            self.outcome.unsendable += 1
            return
        except requests.exceptions.RequestException as error:
            self._complain(asked, who, case, f"no answer: {error!r}")
            return
        ended_s = time.monotonic()
        self.outcome.cases += 1
        self.outcome.negative += not right
        self.outcome.answered[asked.label, f"{response.status_code // 100}xx"] += 1
        self._time(asked, who, case, begun_s, ended_s, machine)
        for what in self._wrong(case, response, right=right, stranger=stranger):
            self._complain(asked, who, case, what)
        if response.status_code == 401 and who:
            self._callers.forget(who)
        self._learn(response)

    def _make_known(self, asked: Asked, case: Any, *, right: bool) -> None:
        """Ids that exist; nothing is written where that could make a wrong request right."""
        modes = {place: info.mode for place, info in case.meta.components.items()}
        fits = {place.value for place, mode in modes.items() if mode is GenerationMode.POSITIVE}
        if "path" in fits or right:
            case.path_parameters = self._pool.known(dict(case.path_parameters or {}), self._chance)
        if ("body" in fits or right) and isinstance(case.body, dict):
            case.body = self._pool.known(case.body, self._chance)
        if "If-Match" in asked.headers and ("header" in fits or right):
            entity = next(iter((case.path_parameters or {}).values()), "")
            tag = self._pool.etags.get(entity, "*")
            case.headers["If-Match"] = tag

    def _time(
        self, asked: Asked, who: str, case: Any, begun_s: float, ended_s: float, machine: Machine
    ) -> None:
        took_s = ended_s - begun_s - _outside_s(case)
        self.outcome.slowest_s = max(self.outcome.slowest_s, took_s)
        if took_s > SLOW_S:
            machine.settle()
            still_s = machine.stood_still_s(begun_s, ended_s)
            self.outcome.stood_still_s += still_s
            if took_s - still_s > SLOW_S:
                self._complain(
                    asked, who, case, f"took {took_s:.2f} s, {still_s:.2f} s of it the machine's"
                )

    def _wrong(
        self, case: Any, response: requests.Response, *, right: bool, stranger: bool
    ) -> Iterator[str]:
        status = response.status_code
        if status >= 500:
            yield f"{status}: {response.text[:300]}"
        if status >= 400 and (leak := LEAKS.search(response.content)) and not _said(case, leak):
            yield f"the answer tells {leak.group()!r}"
        if not right and not _lost(case) and not 400 <= status < 500:
            yield f"a wrong request ({case.meta.phase.data.description}) is answered {status}"
        if stranger and right and status not in {401, 403}:
            yield f"somebody who may not ask is answered {status}"
        if status >= 400:
            yield from _bad_problem(response)
        else:
            try:
                case.validate_response(response, checks=CHECKS)
            except FailureGroup as group:
                yield from (f"{type(each).__name__}: {each.message}" for each in group.exceptions)
        if right and not stranger and status in {400, 422} and _unreadable(response):
            yield f"what fits the schema is refused: {response.text[:300]}"

    def _learn(self, response: requests.Response) -> None:
        if response.headers.get("Content-Type", "").startswith("application/json"):
            body = response.json()
            self._pool.learn(body)
            if isinstance(body, dict) and "ETag" in response.headers:
                self._pool.etags[str(body.get("id"))] = response.headers["ETag"]

    def _complain(self, asked: Asked, who: str, case: Any, what: str) -> None:
        body = "" if case.body is schemathesis.core.NOT_SET else f" body {case.body!r:.400}"
        shown = f"{case.formatted_path} query {case.query} headers {case.headers}{body}"
        self.outcome.wrong.append(f"{asked.label} as {who or 'anyone'}: {what}\n    {shown}")


def _said(case: Any, leak: re.Match[bytes]) -> bool:
    """Whether the request itself has this text: Hypothesis draws words out of the code under test."""
    asked = f"{case.formatted_path} {case.query} {case.headers} {case.body!r}"
    return leak.group().decode() in asked


def _lost(case: Any) -> bool:
    """Whether what is wrong does not survive the way: a query carries nothing but texts."""
    wrong = [
        place.value
        for place, info in case.meta.components.items()
        if info.mode is GenerationMode.NEGATIVE
    ]
    flat = all(isinstance(each, str | int | float) for each in (case.query or {}).values())
    return wrong == ["query"] and not flat


def _outside_s(case: Any) -> float:
    """What the simulated gateway of payments takes."""
    token = case.body.get("payment_token") if isinstance(case.body, dict) else None
    return gateway_wait_s(token) if isinstance(token, str) else 0.0


def _bad_problem(response: requests.Response) -> Iterator[str]:
    kind = response.headers.get("Content-Type", "")
    if response.status_code == 400 and response.text.startswith(OVERSIZED_HEAD):
        return
    if not kind.startswith("application/problem+json"):
        yield f"{response.status_code} is {kind or 'nothing'}, no problem: {response.text[:200]!r}"
        return
    said = response.json()
    missing = {"type", "title", "status", "code", "trace_id"} - said.keys()
    if missing or said["status"] != response.status_code:
        yield f"{response.status_code} is told as {response.text[:200]!r}"


def _unreadable(response: requests.Response) -> bool:
    return response.json().get("code") == "invalid-input"
