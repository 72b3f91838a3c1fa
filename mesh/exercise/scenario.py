"""What a scenario is: a plain function that does one visitor's work, one request after another.

    async def window_shopping(visit: Visit) -> None:
        page = await visit.ask("product.list", page_size=20)
        await visit.ask("product.get", id=visit.choose(page["items"])["id"])

    scenarios = (Scenario("window-shopping", window_shopping, weight=3),)

Everything that chance decides is drawn from the visit, so that a seed repeats it. A visit ends
where a request is not answered as it should be: a scenario only tells the good way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from msgspec import Struct

from mesh import clock
from mesh.configs.complaints import suggestion
from mesh.errors import WrongUsage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

T = TypeVar("T")

CONFLICT = 409


class Route(Struct, frozen=True, kw_only=True):
    """An operation as it is asked over HTTP: where each field travels, and who may ask.

    `roles` None: anyone; a role "" is every user.
    """

    service: str
    name: str
    method: str
    path: str
    places: dict[str, str]
    takes_body: bool
    takes_key: bool
    roles: tuple[str, ...] | None

    @property
    def label(self) -> str:
        """As scenarios, reports and assertions name it."""
        return f"{self.service}.{self.name}"


class Answer(Struct, frozen=True):
    """A definite answer: its status, and its body as plain JSON values."""

    status: int
    body: dict[str, object]

    @property
    def ok(self) -> bool:
        """Whether it was done; else it was refused in a way that the scenario allows for."""
        return self.status < 400  # noqa: PLR2004  HTTP's errors begin here

    def __getitem__(self, name: str) -> object:
        """One member of the body; None where it has none."""
        return self.body.get(name)


class Person(Struct, frozen=True):
    """A user whom the configuration plants."""

    login: str
    roles: tuple[str, ...]


class VisitOver(Exception):
    """A request was not answered as it should be; what that was is noted already."""


@dataclass(frozen=True)
class Scenario:
    """One kind of visitor. `weight` is its share among all, `needs` the operations it asks."""

    name: str
    act: Callable[[Visit], Awaitable[None]]
    weight: float = 1.0
    needs: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Raises: TypeError, ValueError."""
        if not isinstance(self.name, str) or not self.name:
            raise ValueError(f"a scenario's name is no text: {self.name!r}")
        if not callable(self.act):
            raise TypeError(f"the scenario {self.name} is no function: {self.act!r}")
        if not isinstance(self.weight, int | float) or not 0 < self.weight < math.inf:
            raise ValueError(
                f"the weight of the scenario {self.name} is not above 0: {self.weight!r}"
            )
        if isinstance(self.needs, str):
            raise TypeError(f"what the scenario {self.name} needs is no tuple: {self.needs!r}")

    @property
    def sentence(self) -> str:
        """The first line of its docstring."""
        return (self.act.__doc__ or self.name).strip().split("\n", 1)[0]


@dataclass
class Ask:
    """One request of a visitor, before it is sent.

    `key` is its Idempotency-Key, `due_s` when it should have been sent, `by` a login.
    """

    route: Route
    fields: dict[str, object]
    visit: int
    key: str | None
    due_s: float
    by: str | None
    bearer: str | None
    refusals: tuple[int, ...]
    repeat: bool = False


@dataclass
class Visit:
    """One visitor.

    Attributes:
        number: counts from 0 through the whole run.
        name: unique in the life of the databases: for what must be called something.
    """

    number: int
    name: str
    draw: Callable[[], float]
    due_s: float
    perform: Callable[[Ask], Awaitable[Answer]]
    routes: Mapping[str, Route]
    people: Sequence[Person]
    _asked: int = 0
    _chosen: dict[tuple[str, ...], str] = field(default_factory=dict)

    def has(self, operation: str) -> bool:
        """Whether a service here has that operation (`order.ship`)."""
        return operation in self.routes

    def choose(self, among: Sequence[T]) -> T:
        """One of several, each as likely. Raises: VisitOver when there is none."""
        if not among:
            raise VisitOver
        return among[int(self.draw() * len(among))]

    def whole(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both included."""
        return low + int(self.draw() * (high - low + 1))

    def chance(self, share: float) -> bool:
        """Whether something happens that happens to this share of visitors."""
        return self.draw() < share

    async def ask(
        self,
        operation: str,
        *,
        by: str | None = None,
        bearer: str | None = None,
        refusals: tuple[int, ...] = (CONFLICT,),
        repeat: bool = False,
        **fields: object,
    ) -> Answer:
        """Ask one operation (`order.create`) and wait for its answer.

        Args:
            by: a login; else the visitor is one of the seeded users who may, the same each time.
            bearer: a token to show instead.
            repeat: a patient visitor may send it again although it takes no key.
            refusals: statuses of 400 and above that are answers, not failures.
            fields: of path, query and body alike, as `mesh call` takes them.

        Raises: VisitOver when it was answered otherwise or not at all; WrongUsage (no such
            operation or field).
        """
        route = self.routes.get(operation)
        if route is None:
            raise WrongUsage(
                f"a scenario asks `{operation}`, which nobody here has"
                f"{suggestion(operation, list(self.routes))}"
            )
        _check(route, fields)
        if by is None and bearer is None and route.roles is not None:
            by = self._somebody(route.roles, operation)
        self._asked += 1
        key = f"{self.name}-{self._asked}" if route.takes_key else None
        due_s = self.due_s if self._asked == 1 else clock.monotonic_s()
        return await self.perform(
            Ask(route, fields, self.number, key, due_s, by, bearer, refusals, repeat)
        )

    def _somebody(self, roles: tuple[str, ...], operation: str) -> str:
        """One of those who may, the same each time; where any user may, who came first."""
        if "" in roles and self._chosen:
            return next(iter(self._chosen.values()))
        if roles not in self._chosen:
            may = [
                person.login
                for person in self.people
                if "" in roles or set(roles) & set(person.roles)
            ]
            if not may:
                raise WrongUsage(
                    f"no seeded user may ask {operation}", hint="give the scenario a `bearer`"
                )
            self._chosen[roles] = self.choose(may)
        return self._chosen[roles]


def _check(route: Route, fields: dict[str, object]) -> None:
    for name in fields:
        if name not in route.places:
            raise WrongUsage(
                f"{route.label} has no field `{name}`{suggestion(name, list(route.places))}"
            )
    missing = [name for name, place in route.places.items() if place == "path"]
    for name in missing:
        if name not in fields:
            raise WrongUsage(f"{route.label} needs the field `{name}`")
