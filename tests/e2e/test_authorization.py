"""Who may do what, in the running shop: every operation of every service, by everybody.

The table of operations says who is let in; here everybody asks for each with an input that would be
taken. Exactly the declared cells answer 2xx. A new operation joins by itself with its example;
one whose example needs a state that others use up says here how to make another.
"""

from __future__ import annotations

import importlib
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import yaml

from mesh import codec
from mesh.orchestrator.remote import Remote
from tests.support.running import ADDRESS, LAMP, PASSWORD, SHOP, Answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from mesh.framework import Operation
    from tests.support.running import RunningMesh

CONFIG = yaml.safe_load(SHOP.read_text("utf-8"))["services"]
MAY_ASK = {name: frozenset(row.get("calls", ())) for name, row in CONFIG.items()}
TABLES = {name: importlib.import_module(f"mesh.services.{name}.service").service for name in CONFIG}
ISSUER = "auth"
"""It takes no user's token: it would be asking itself."""

PEOPLE = {"owner": "alice", "other customer": "bob", "staff": "sam", "admin": "ada"}
ROLES = {"owner": "customer", "other customer": "customer", "staff": "staff", "admin": "admin"}
CALLERS = ("anonymous", *PEOPLE, *CONFIG, "operator")


@dataclass(frozen=True)
class Prepared:
    """An input that would be taken now, and whose it is: a login or an e-mail."""

    members: dict[str, Any]
    owner: str = "alice"


class Desk:
    """Asks in anybody's name."""

    def __init__(self, mesh: RunningMesh) -> None:
        self.mesh = mesh
        self._remote = Remote.find(mesh.directory / "data")
        self._count = itertools.count()

    def fresh(self) -> str:
        """A text that nothing else is called."""
        return f"matrix-{next(self._count)}"

    def session(self, login: str) -> dict[str, Any]:
        """A new session of a user: what is done with it disturbs nobody else."""
        token = self._remote.token("operator", "user")
        opened = self.mesh.ask("user", "POST", "/sessions/act-as", {"login": login}, token=token)
        assert opened.status == 201, opened
        return dict(opened.body)

    def token(self, caller: str, service: str, owner: str) -> str | None:
        if caller == "anonymous":
            return None
        if caller in PEOPLE:
            login = owner if caller == "owner" else PEOPLE[caller]
            return str(self.session(login)["access_token"])
        return self._remote.token(caller, service)

    def send(
        self, service: str, row: Operation, members: dict[str, Any], token: str | None
    ) -> Answer:
        """One request for an operation, as the contract has it."""
        path = row.path
        for name in row.path_fields:
            path = path.replace(f"{{{name}}}", quote(str(members[name]), safe=""))
        rest = {
            name: value
            for name, value in members.items()
            if name not in row.path_fields and value is not None
        }
        headers = {} if row.key == "none" else {"Idempotency-Key": self.fresh()}
        if row.match:
            headers["If-Match"] = "*"
        if row.rest_in_query:
            target = f"{path}?{urlencode(rest)}" if rest else path
            return self.mesh.ask(service, row.method, target, token=token, headers=headers)
        body = rest if set(codec.fields(row.takes)) - set(row.path_fields) else None
        return self.mesh.ask(service, row.method, path, body, token=token, headers=headers)

    def do(self, caller: str, service: str, name: str, **members: Any) -> Any:
        """An operation that must succeed, with members laid over its example."""
        row = next(row for row in TABLES[service].operations if row.name == name)
        token = self.token(caller, service, "alice")
        answer = self.send(service, row, {**codec.plain(row.example), **members}, token)
        assert answer.status < 300, (name, answer)
        return answer.body

    def order(self) -> str:
        """The id of a new order of alice's."""
        lines = [{"product_id": LAMP, "quantity": 1}]
        return str(self.do("owner", "order", "create", lines=lines, ship_to=ADDRESS)["id"])

    def paid(self) -> str:
        order = self.order()
        answer = self.do("owner", "order", "pay", id=order)
        assert answer["status"] == "paid", answer
        return order

    def shipped(self) -> str:
        order = self.paid()
        self.do("staff", "order", "ship", id=order)
        return order

    def delivered(self) -> str:
        order = self.shipped()
        self.do("staff", "order", "deliver", id=order)
        return order

    def held(self) -> str:
        """The id of an order that nobody has placed, for which stock is held."""
        order = f"ord_00000000-0000-7000-8000-{next(self._count) + 10**11:012d}"
        self.do("order", "product", "hold", order_id=order)
        return order

    def committed(self) -> str:
        order = self.held()
        self.do("order", "product", "commit-hold", order_id=order)
        return order

    def product(self) -> str:
        return str(self.do("staff", "product", "create", sku=self.fresh().upper())["id"])

    def person(self) -> Prepared:
        """Somebody who has just registered."""
        email = f"{self.fresh()}@shop.example"
        made = self.do("anonymous", "user", "register", email=email, password=PASSWORD)
        return Prepared({"id": made["id"]}, owner=email)


PREPARE: dict[tuple[str, str], Callable[[Desk], Prepared]] = {
    ("user", "register"): lambda d: Prepared({"email": f"{d.fresh()}@shop.example"}),
    ("user", "remove-address"): lambda d: Prepared(
        {"id": d.do("owner", "user", "add-address")["id"]}
    ),
    ("user", "erase"): Desk.person,
    ("auth", "refresh-token"): lambda d: Prepared(
        {"refresh_token": d.session("bob")["refresh_token"]}
    ),
    ("auth", "revoke-token"): lambda d: Prepared(
        {"refresh_token": d.session("bob")["refresh_token"]}
    ),
    ("product", "create"): lambda d: Prepared({"sku": d.fresh().upper()}),
    ("product", "discontinue"): lambda d: Prepared({"id": d.product()}),
    ("product", "hold"): lambda d: Prepared({"order_id": d.held()}),
    ("product", "get-hold"): lambda d: Prepared({"order_id": d.held()}),
    ("product", "commit-hold"): lambda d: Prepared({"order_id": d.held()}),
    ("product", "ship-hold"): lambda d: Prepared({"order_id": d.committed()}),
    ("product", "release-hold"): lambda d: Prepared({"order_id": d.held()}),
    ("order", "pay"): lambda d: Prepared({"id": d.order()}),
    ("order", "cancel"): lambda d: Prepared({"id": d.order()}),
    ("order", "ship"): lambda d: Prepared({"id": d.paid()}),
    ("order", "deliver"): lambda d: Prepared({"id": d.shipped()}),
    ("order", "return"): lambda d: Prepared({"id": d.delivered()}),
}


def declared(service: str, row: Operation, caller: str) -> bool:
    """Whether the tables and `calls:` let this caller do it."""
    allow = row.allow
    if caller == "anonymous":
        return allow.anyone
    if caller == "operator":
        return allow.anyone or allow.operator
    if caller in PEOPLE:
        if service == ISSUER:
            return False
        named = {"user", ROLES[caller]} & set(allow.roles)
        return allow.anyone or bool(named) or (allow.owner and caller == "owner")
    return service in MAY_ASK[caller] and (allow.anyone or caller in allow.services)


def refused(service: str, row: Operation, caller: str, answer: Answer) -> bool:
    """Whether it was refused for who asks, and not for anything else."""
    if answer.status in {401, 403}:
        return True
    return row.allow.owner and caller in PEOPLE and answer.status == 404


def test_exactly_the_declared_callers_are_let_in(mesh: RunningMesh):
    desk = Desk(mesh)
    wrong, cells, let_in = [], 0, 0
    for service, table in TABLES.items():
        for row in table.operations:
            prepare = PREPARE.get((service, row.name), lambda _: Prepared({}))
            found = prepare(desk)
            # who is refused asks first, and changes nothing: the first who may finds it as it was
            for caller in sorted(CALLERS, key=lambda who: declared(service, row, who)):
                members = {**codec.plain(row.example), **found.members}
                token = desk.token(caller, service, found.owner)
                answer = desk.send(service, row, members, token)
                cells += 1
                if declared(service, row, caller):
                    let_in += 1
                    right = 200 <= answer.status < 300
                    found = prepare(desk)
                else:
                    right = refused(service, row, caller, answer)
                if not right:
                    wrong.append(f"{service} {row.name} by {caller}: {answer.status} {answer.body}")
    print(f"{cells} cells, {let_in} of them let in")
    assert wrong == []
    assert cells == len(CALLERS) * sum(len(table.operations) for table in TABLES.values())
