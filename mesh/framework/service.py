"""A service as a table: what it is asked, asks, hears, tells, defers and promises.

A table, not decorators: it reads top to bottom, can be printed and checked, and has no import
order. `check` is run before the service starts, so a slip in a table never reaches a caller.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from mesh import codec
from mesh.errors import Broken

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mesh.client import Call
    from mesh.database import Reader
    from mesh.framework.context import Context
    from mesh.framework.identity import Caller
    from mesh.framework.transaction import Tx

In = TypeVar("In")
Out = TypeVar("Out")

NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
"""A service, stream or operation name: also a file name and part of an ipc path."""

_EVENT_TYPE = re.compile(r"([a-z][a-z0-9-]{0,30})\.[a-z][a-z0-9_]{0,60}")
_ROUTE = re.compile(r"(GET|POST|PUT|PATCH|DELETE) (/[a-z0-9_{}/.-]*)")
_PATH_FIELD = re.compile(r"\{([a-z_][a-z0-9_]*)\}")


@dataclass(frozen=True, kw_only=True)
class Allow:
    """Who may call an operation; an empty one lets nobody in.

    `roles` are roles of users (any one suffices; `user` is every logged-in user), `services`
    names of callers. `owner` lets every user in, each to what is their own: to others the action
    answers that it is not there, as to those who ask for nothing.
    """

    anyone: bool = False
    owner: bool = False
    roles: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    operator: bool = False


ANYONE = Allow(anyone=True)
USER = Allow(roles=("user",))
OWNER = Allow(owner=True)
OPERATOR = Allow(operator=True)


def roles(*names: str) -> Allow:
    """Users with any of these roles."""
    return Allow(roles=names)


def owner_or(*names: str) -> Allow:
    """Whose it is, and users with any of these roles."""
    return Allow(owner=True, roles=names)


def services(*names: str) -> Allow:
    """These services, in their own name."""
    return Allow(services=names)


@dataclass(frozen=True)
class Operation(Generic[In, Out]):
    """Something the service can be asked.

    `route` is `METHOD /path/{field}`; fields of `takes` that the path does not name are query
    parameters for GET and DELETE and body members otherwise. `example` must be accepted by a
    freshly seeded shop. `key` says whether an Idempotency-Key is required, taken or ignored.
    """

    name: str
    route: str
    action: Callable[[Context, In], Awaitable[Out]]
    takes: type[In]
    gives: type[Out]
    allow: Allow = field(kw_only=True)
    example: In = field(kw_only=True)
    status: int = field(default=200, kw_only=True)
    key: Literal["required", "optional", "none"] = field(default="none", kw_only=True)
    match: bool = field(default=False, kw_only=True)
    """Whether the caller must say which version it has read (If-Match)."""
    may_be_accepted: bool = field(default=False, kw_only=True)
    """Whether the answer may be 202: taken, but not decided yet."""
    done: Callable[[Reader, Caller, In], bool] | None = field(default=None, kw_only=True)
    """Whether what is asked has been done already; then it is answered as done, and no action runs.

    For what ends the caller's own session: the answer may be lost, and asking again is the only way
    to learn of it. So a token whose session has ended is good for this one question, and for no more.
    """

    @cached_property
    def method(self) -> str:
        """The HTTP method."""
        return self.route.split(" ", 1)[0]

    @cached_property
    def path(self) -> str:
        """The path template."""
        return self.route.split(" ", 1)[1]

    @cached_property
    def path_fields(self) -> tuple[str, ...]:
        """The fields the path names, in order."""
        return tuple(_PATH_FIELD.findall(self.path))

    @cached_property
    def rest_in_query(self) -> bool:
        """Whether fields outside the path travel in the query instead of a body."""
        return self.method in {"GET", "DELETE"}

    @property
    def summary(self) -> str:
        """First line of the action's docstring."""
        return (self.action.__doc__ or self.name).strip().split("\n", 1)[0]


@dataclass(frozen=True)
class Listener(Generic[In]):
    """Something the service hears: a plain function of `(tx, data)`, run once for each event.

    An event that it fails at for good is parked and the stream goes on; with `halt` the stream
    stops there instead, for what must not be passed over even for a while. With `aside` it runs off
    the event loop, for what looks through many rows or waits for a disk. With `newest` it is run for
    the last of those about one subject that came together: for who keeps nothing of those before it.
    """

    event: str
    react: Callable[[Tx, In], None]
    reads: type[In]
    halt: bool = False
    aside: bool = False
    newest: bool = False

    @property
    def stream(self) -> str:
        """The service that tells it."""
        return self.event.split(".", 1)[0]


@dataclass(frozen=True)
class Tells:
    """An event the service tells; `key` is the member that holds the entity's id."""

    event: str
    data: type
    key: str


@dataclass(frozen=True)
class Deferred(Generic[In]):
    """Work of its own that a transaction may leave for after its commit (`tx.defer`).

    It is run until it succeeds, so it must be safe to run again. `asks`: what it cannot do without;
    while one of those does not answer, it is not begun, but for a probe.
    """

    name: str
    action: Callable[[Context, In], Awaitable[object]]
    takes: type[In]
    asks: tuple[Call, ...] = ()  # type: ignore[type-arg]  # each has types of its own


@dataclass(frozen=True)
class Invariant:
    """A promise about this service's own data: a query whose rows are the offenders.

    The first column names an offender, further ones say more of it. The query may use `:now_ms`,
    the moment it speaks of. `of` is the table of which every row was looked at, to be counted.
    """

    name: str
    sentence: str
    offenders: str
    of: str = ""


@dataclass(frozen=True)
class Agreement(Invariant):
    """A promise about this service's data and others' together, judged on copies of one cut.

    The others' tables bear their service's name: `product.holds`. What is under way at the cut
    is excused by the query itself, by what is stored of it. It is judged where all of them are.
    """

    beside: tuple[str, ...] = ()


@dataclass(frozen=True)
class Move:
    """One way from one state to another; `source` "" is the way in.

    `by` names who may ask for it, with an operation called as the cause; nobody: it happens by
    itself. `defers` is the work left for later in the commit of the move.
    """

    source: str
    cause: str
    target: str
    defers: tuple[str, ...] = ()
    by: tuple[str, ...] = ()


@dataclass(frozen=True)
class Moves:
    """The table of moves of one entity, as data: guards, explanations and diagrams read it."""

    entity: str
    rows: tuple[Move, ...]

    @property
    def states(self) -> tuple[str, ...]:
        """Every state, in the order in which the rows reach it."""
        return tuple(dict.fromkeys(row.target for row in self.rows))

    @property
    def initial(self) -> tuple[str, ...]:
        """The states in which an entity begins."""
        return tuple(dict.fromkeys(row.target for row in self.rows if not row.source))

    @property
    def terminal(self) -> tuple[str, ...]:
        """The states that nothing leads out of."""
        left = {row.source for row in self.rows}
        return tuple(state for state in self.states if state not in left)

    def out_of(self, state: str) -> tuple[Move, ...]:
        """The moves possible in this state."""
        return tuple(row for row in self.rows if row.source == state)

    def find(self, state: str, cause: str) -> Move | None:
        """What this cause does in this state; None where it may do nothing."""
        return next((row for row in self.out_of(state) if row.cause == cause), None)


@dataclass(frozen=True)
class Seed(Generic[In]):
    """How the configuration's `seed:` is planted, once, in one transaction after the migrations."""

    takes: type[In]
    plant: Callable[[Tx, In], None]


@dataclass(frozen=True, kw_only=True)
class Service:
    """One service. `unsettled` counts entities that still move by themselves (first column)."""

    name: str
    summary: str
    operations: tuple[Operation, ...]  # type: ignore[type-arg]  # each row has types of its own
    asks: tuple[Call, ...] = ()  # type: ignore[type-arg]
    """What it asks of others; `ctx.ask` takes no other call."""
    listeners: tuple[Listener, ...] = ()  # type: ignore[type-arg]
    tells: tuple[Tells, ...] = ()
    deferred: tuple[Deferred, ...] = ()  # type: ignore[type-arg]
    invariants: tuple[Invariant, ...] = ()
    agreements: tuple[Agreement, ...] = ()
    moves: tuple[Moves, ...] = ()
    seed: Seed | None = None  # type: ignore[type-arg]
    unsettled: str | None = None
    erases: Callable[[Tx, str], None] | None = None
    """For who tells `user.erased`: removes all it holds of a person, by id; safe to run again."""


def check(service: Service) -> None:
    """Look for slips in the table.

    Raises: Broken, naming the row.
    """
    rows = [
        *_bad_operations(service),
        *_bad_calls(service),
        *(
            f"listener {row.event!r}: not `<service>.<noun>_<participle>`"
            for row in service.listeners
            if not _EVENT_TYPE.fullmatch(row.event)
        ),
        *(
            f"listener {event!r}: only one a service; the second would replace the first"
            for event, count in Counter(row.event for row in service.listeners).items()
            if count > 1
        ),
        *(
            f"event {row.event!r}: must begin with `{service.name}.` and have its key {row.key!r}"
            for row in service.tells
            if not row.event.startswith(f"{service.name}.") or row.key not in codec.fields(row.data)
        ),
        *(
            f"event {row.event!r}: carries personal or secret data: {', '.join(found)}"
            for row in service.tells
            if (found := codec.personal_fields(row.data))
        ),
        *(
            f"deferred {row.name!r}: asks {call.service} {call.route!r}, not in `asks` of the Service"
            for row in service.deferred
            for call in row.asks
            if call not in service.asks
        ),
        *(
            f"agreement {row.name!r}: `beside` names the other services, at least one"
            for row in service.agreements
            if not row.beside or service.name in row.beside
        ),
        *(bad for table in service.moves for bad in _bad_moves(service, table)),
    ]
    if not NAME.fullmatch(service.name):
        rows.append(f"name {service.name!r}: not [a-z][a-z0-9-]{{0,30}}")
    if rows:
        raise Broken(f"the table of service {service.name!r} is wrong", evidence=tuple(rows))


def _bad_operations(service: Service) -> list[str]:
    bad = []
    names = [row.name for row in service.operations]
    routes = [re.sub(r"\{.*?\}", "{}", row.route) for row in service.operations]
    for row, name, route in zip(service.operations, names, routes, strict=True):
        place = f"operation {name!r}"
        if not NAME.fullmatch(name) or names.count(name) > 1:
            bad.append(f"{place}: names are [a-z][a-z0-9-]{{0,30}} and unique")
        if not _ROUTE.fullmatch(row.route) or routes.count(route) > 1:
            bad.append(f"{place}: route {row.route!r} is malformed or taken")
        if row.allow == Allow():
            bad.append(f"{place}: lets nobody in; say who may call it")
        if row.done is not None and (row.gives is not type(None) or not row.rest_in_query):
            bad.append(f"{place}: `done` is for what is answered with nothing and has no body")
        missing = set(row.path_fields) - set(codec.fields(row.takes))
        if missing:
            bad.append(f"{place}: {row.takes.__name__} lacks {', '.join(sorted(missing))}")
    return bad


def _bad_moves(service: Service, table: Moves) -> list[str]:
    bad = []
    asked = {row.name for row in service.operations}
    deferred = {row.name for row in service.deferred}
    for (source, cause), count in Counter((row.source, row.cause) for row in table.rows).items():
        if count > 1:
            bad.append(f"moves of {table.entity}: {source!r} and {cause!r} lead to two states")
    for row in table.rows:
        place = f"moves of {table.entity}, {row.source!r} to {row.target!r}"
        if row.source and row.source not in table.states:
            bad.append(f"{place}: nothing leads to {row.source!r}")
        if row.by and row.cause not in asked:
            bad.append(f"{place}: no operation is called {row.cause!r}")
        bad.extend(
            f"{place}: no deferred action {name!r}" for name in row.defers if name not in deferred
        )
    return bad


def _bad_calls(service: Service) -> list[str]:
    bad = []
    for call, count in Counter(service.asks).items():
        place = f"call {call.service} {call.route!r}"
        if not NAME.fullmatch(call.service) or call.service == service.name:
            bad.append(f"{place}: asks no other service")
        if not _ROUTE.fullmatch(call.route):
            bad.append(f"{place}: the route is malformed")
        if count > 1:
            bad.append(f"{place}: stands there twice")
        missing = set(_PATH_FIELD.findall(call.route)) - set(codec.fields(call.takes))
        if missing:
            bad.append(f"{place}: {call.takes.__name__} lacks {', '.join(sorted(missing))}")
    return bad
