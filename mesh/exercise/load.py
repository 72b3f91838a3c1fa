"""The open loop: visitors come when the plan says, whether or not others have been answered."""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from typing import TYPE_CHECKING

from mesh import clock
from mesh.errors import Broken, MeshError
from mesh.exercise.scenario import Visit, VisitOver

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

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

    async def run(self, plan: Iterable[Arrival], stop: asyncio.Event, patience_s: float) -> None:
        """Let everybody in at his time, then wait for the last; `stop` ends it at once.

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
            until_s = clock.monotonic_s() + DRAIN_S + patience_s
            while self._inside and not stop.is_set() and clock.monotonic_s() < until_s:
                await asyncio.wait(self._inside, timeout=LOOK_S)
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
            await scenario.act(visit)
        except VisitOver:
            pass
        except MeshError:
            raise
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            raise Broken(
                f"the scenario {scenario.name} raised {type(error).__name__}: {error}",
                evidence=(f"{where.filename}:{where.lineno}: {where.line}",),
                code="scenario-broken",
            ) from error
