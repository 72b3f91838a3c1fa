"""A process that dies at its n-th step: before and after each write and each question."""

from __future__ import annotations

import pytest

from mesh.framework import idempotency

STEPS_MAX = 40
"""Far more awaits than any of these requests has."""


class Died(BaseException):
    """The process is gone: no handler of errors sees this."""


class Mortal:
    """A room whose process dies at its n-th step: before and after each write and each question."""

    def __init__(self, room, at: int) -> None:
        self.room = room
        self.at = at
        self.steps = 0

    def __enter__(self):
        wires = self.room.wires
        self._database, self._client = wires.database, wires.client
        wires.database, wires.client = _Database(self, wires.database), _Client(self, wires.client)
        return self

    def __exit__(self, *_):
        self.room.wires.database, self.room.wires.client = self._database, self._client
        self.room._running = idempotency.Running()

    def step(self) -> None:
        self.steps += 1
        if self.steps == self.at:
            raise Died


class _Database:
    def __init__(self, mortal: Mortal, inner) -> None:
        self._mortal, self._inner = mortal, inner

    async def write(self, fn, *args, **kwargs):
        self._mortal.step()
        result = await self._inner.write(fn, *args, **kwargs)
        self._mortal.step()
        return result

    write_delayed = write_aside = write

    def __getattr__(self, name):
        return getattr(self._inner, name)


class _Client:
    def __init__(self, mortal: Mortal, inner) -> None:
        self._mortal, self._inner = mortal, inner

    async def ask(self, call, request, envelope):
        self._mortal.step()
        try:
            return await self._inner.ask(call, request, envelope)
        finally:
            self._mortal.step()


async def deaths(room, ask):
    """Let the process die at each step of `ask(n)` in turn; yields after each death."""
    for at in range(1, STEPS_MAX):
        with Mortal(room, at) as mortal:
            try:
                await ask(at)
            except Died:
                pass
            else:
                assert mortal.steps == at - 1
                return
        yield at
    pytest.fail(f"more than {STEPS_MAX} steps")
