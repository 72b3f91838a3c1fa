"""One task at a time: every wait of a service is a gate, and somebody else opens the gates."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mesh.errors import DatabaseBusy, DeadlineExceeded, MeshError, ServiceUnavailable

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from tests.services.order.simulation import Simulation


@dataclass
class Gate:
    """Where one task waits for its turn."""

    service: str
    task: asyncio.Task
    opened: asyncio.Future
    ready: bool = True
    not_before: int = 0


class Stage:
    """Lets one task run at a time."""

    def __init__(self) -> None:
        self.gates: list[Gate] = []
        self.tasks: dict[asyncio.Task, str] = {}
        self.failures: list[str] = []
        self.now = 0
        """Steps told so far: what is on its way may take some of them."""
        self._active = 0
        self._at_rest = asyncio.Event()

    def spawn(self, service: str, work: Coroutine) -> asyncio.Task:
        self._active += 1
        task = asyncio.get_running_loop().create_task(work)
        self.tasks[task] = service
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task) -> None:
        del self.tasks[task]
        self._rest()
        if not task.cancelled() and task.exception() is not None:
            self.failures.append(f"a task failed: {task.exception()!r}")

    def _rest(self) -> None:
        self._active -= 1
        if not self._active:
            self._at_rest.set()

    def gate(self, *, ready: bool = True) -> Gate:
        task = asyncio.current_task()
        made = Gate(self.tasks[task], task, asyncio.get_running_loop().create_future(), ready)
        self.gates.append(made)
        return made

    async def wait(self, gate: Gate) -> None:
        self._rest()
        await gate.opened

    async def turn(self, delay: int = 0) -> None:
        gate = self.gate()
        gate.not_before = self.now + delay
        await self.wait(gate)

    @property
    def ready(self) -> list[Gate]:
        return [gate for gate in self.gates if gate.ready and gate.not_before <= self.now]

    async def go(self, gate: Gate) -> None:
        """Let one task run to its next gate."""
        self.gates.remove(gate)
        self._active += 1
        gate.opened.set_result(None)
        await self.settle()

    async def settle(self) -> None:
        if self._active:
            self._at_rest.clear()
            await self._at_rest.wait()

    async def kill(self, service: str) -> None:
        """The process dies wherever each of its tasks is."""
        for gate in [gate for gate in self.gates if gate.service == service]:
            self.gates.remove(gate)
            self._active += 1
            gate.task.cancel()
        await self.settle()


class Gated:
    """A database whose writes wait for their turn, and may be refused for want of room."""

    def __init__(self, inner, simulation: Simulation) -> None:
        self._inner = inner
        self._simulation = simulation

    async def write(self, fn, *args, **kwargs):
        simulation = self._simulation
        await simulation.stage.turn()
        if simulation.chance(0.02):
            raise DatabaseBusy
        result = await self._inner.write(fn, *args, **kwargs)
        await simulation.stage.turn()
        return result

    write_delayed = write_aside = write

    def __getattr__(self, name):
        return getattr(self._inner, name)


class Network:
    """Between order and product: what is asked may be lost, late or doubled, and so its answer."""

    def __init__(self, inner, simulation: Simulation) -> None:
        self._inner = inner
        self._simulation = simulation

    async def ask(self, call, request, envelope):
        simulation = self._simulation
        stage = simulation.stage
        await stage.turn()
        if simulation.away or simulation.chance(0.04):
            raise ServiceUnavailable
        late, twice, lost = (simulation.chance(p) for p in (0.05, 0.04, 0.05))
        slow = simulation.rng.random() < simulation.lag
        gate = stage.gate(ready=late)
        outcome: list[object] = []

        async def serve(gate: Gate | None) -> None:
            try:
                await stage.turn(simulation.delay() if late or gate is None else 0)
                outcome.append(await self._inner.ask(call, request, envelope))
            except MeshError as error:
                outcome.append(error)
            finally:
                outcome.append(ServiceUnavailable())  # heard only if there is no other
                if gate is not None:
                    gate.ready = True
                    gate.not_before = stage.now + simulation.delay() * slow

        stage.spawn("product", serve(gate))
        if twice:
            stage.spawn("product", serve(None))
        await stage.wait(gate)
        if late or lost:
            raise DeadlineExceeded
        if isinstance(outcome[0], MeshError):
            raise outcome[0]
        return outcome[0]
