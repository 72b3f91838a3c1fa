"""The open loop: visitors come when the plan says, whether or not others have been answered."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import traceback
from typing import TYPE_CHECKING

from mesh import clock
from mesh.errors import Broken, MeshError
from mesh.exercise.scenario import Visit, VisitOver

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Mapping, Sequence

    from mesh.exercise.plan import Arrival
    from mesh.exercise.scenario import Person, Route, Scenario
    from mesh.exercise.tally import Tally
    from mesh.exercise.wire import Wire

VISITORS_MAX = 4000
"""At a time; who comes then is turned away and counted, or a dead system would take all memory."""

DRAIN_S = 15.0
"""For those still inside when nobody comes any more: three answers that do not come."""

LOOK_S = 0.2
"""How soon a run that is to stop does."""


class Load:
    """The visitors of one run."""

    def __init__(
        self,
        scenarios: Sequence[Scenario],
        wire: Wire,
        tally: Tally,
        routes: Mapping[str, Route],
        people: Sequence[Person],
        name: str,
    ) -> None:
        """`name` is the run's own: what visitors name things by begins with it."""
        self._scenarios = scenarios
        self._wire = wire
        self._tally = tally
        self._routes = routes
        self._people = people
        self._name = name
        self._inside: set[asyncio.Task[None]] = set()

    @property
    def inside(self) -> int:
        """Visitors who are not done yet."""
        return len(self._inside)

    async def run(
        self,
        plan: Iterable[Arrival],
        stop: asyncio.Event,
        patience_s: float,
        duration_s: float = 0.0,
    ) -> None:
        """Let everybody in at his time, then wait for the last; `stop` ends it at once.

        It lasts for `duration_s` at least, since a rate is of that time, whenever the last came.

        Raises: what a scenario raises beyond VisitOver, an ExceptionGroup.
        """
        begun_s = self._wire.begun_s
        async with asyncio.TaskGroup() as group:
            for arrival in plan:
                await self._until(begun_s + arrival.at_s, stop)
                if stop.is_set():
                    break
                self._tally.visits += 1
                if len(self._inside) >= VISITORS_MAX:
                    self._tally.turned_away += 1
                    continue
                task = group.create_task(self._visit(arrival, begun_s + arrival.at_s))
                self._inside.add(task)
                task.add_done_callback(self._inside.discard)
            await self._until(begun_s + duration_s, stop)
            until_s = clock.monotonic_s() + DRAIN_S + patience_s
            while self._inside and not stop.is_set() and clock.monotonic_s() < until_s:
                await asyncio.wait(self._inside, timeout=LOOK_S)
            self._tally.unfinished = len(self._inside)
            for task in [*self._inside]:
                task.cancel()

    @staticmethod
    async def _until(at_s: float, stop: asyncio.Event) -> None:
        """Sleep until then, or until it is to stop."""
        left_s = at_s - clock.monotonic_s()
        if left_s > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await stop.wait()

    async def _visit(self, arrival: Arrival, due_s: float) -> None:
        visit = Visit(
            number=arrival.number,
            name=f"{self._name}-{arrival.number}",
            draw=clock.seeded(arrival.seed),
            due_s=due_s,
            perform=self._wire.perform,
            routes=self._routes,
            people=self._people,
        )
        scenario = self._scenarios[arrival.scenario]
        try:
            await _begun(scenario, visit)
        except VisitOver:
            pass
        except MeshError:
            raise
        except (Exception, SystemExit) as error:  # anything at all may be in a scenario
            raise Broken(
                f"the scenario {scenario.name} raised {type(error).__name__}: {error}",
                evidence=(_where(scenario, error),),
                code="scenario-broken",
            ) from error


def _begun(scenario: Scenario, visit: Visit) -> Awaitable[None]:
    """A visit that can be waited for. Raises: Broken, and what the scenario raises."""
    doing = scenario.act(visit)
    if not inspect.isawaitable(doing):
        raise Broken(
            f"the scenario {scenario.name} is no `async def`: it gave {type(doing).__name__}",
            code="scenario-broken",
            hint="async def visitor(visit: Visit) -> None",
        )
    return doing


def _where(scenario: Scenario, error: BaseException) -> str:
    """The innermost line of the scenario's own file, else of all."""
    frames = traceback.extract_tb(error.__traceback__)
    code = getattr(inspect.unwrap(scenario.act), "__code__", None)
    own = [each for each in frames if code and each.filename == code.co_filename]
    where = (own or frames)[-1]
    return f"{where.filename}:{where.lineno}: {where.line}"
