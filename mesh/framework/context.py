"""What an action is handed: who calls, and the three wires.

`ask` another service, `write` (which tells and defers) and `read` or `scan` its own database.
Time and ids come from here too, so an action is deterministic in a test.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from mesh import clock
from mesh.client import Call, Client, Envelope
from mesh.errors import Broken, MeshError, Overloaded, Refused
from mesh.framework import idempotency
from mesh.framework.transaction import Tx, Vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from concurrent.futures import Executor

    from mesh.database import Database, Reader, Transaction, Value
    from mesh.framework.idempotency import Keyed
    from mesh.framework.identity import Caller
    from mesh.telemetry import TraceContext

T = TypeVar("T")
P = ParamSpec("P")
In = TypeVar("In")
Out = TypeVar("Out")

COMPUTE_WAITING_MAX = 16
"""Callers that may wait for a place in the compute pool; beyond, Overloaded."""


@dataclass
class Wires:
    """What all contexts of one process share."""

    service: str
    project: str
    database: Database
    client: Client
    asks: frozenset[Call]  # type: ignore[type-arg]  # each has types of its own
    vocabulary: Vocabulary
    pool: Executor
    pool_size: int
    computing: int = 0


@dataclass(slots=True)
class Context:
    """One piece of work: a request being answered, or deferred work being done.

    `deadline_s` is on the monotonic clock. `status` is what a request will be answered with,
    where the operation allows another than its own (202 for work accepted but not finished).
    `match` holds the versions that the caller has read, where the operation asks for them.
    """

    wires: Wires
    caller: Caller
    trace: TraceContext
    cause: str
    deadline_s: float
    outermost: bool = True
    """Whether nobody above this work tries it again, so that its asks may be repeated here."""
    keyed: Keyed | None = None
    match: frozenset[str] = frozenset()
    source: str = ""
    """The address that the request came from; empty for deferred work."""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def now_ms(self) -> int:
        """Wall time in milliseconds."""
        return clock.now_ms()

    @property
    def project(self) -> str:
        """The configured name of this mesh."""
        return self.wires.project

    @property
    def log(self) -> logging.Logger:
        """This service's logger; `log.info("text", extra=facts(order_id=…))`."""
        return logging.getLogger(f"mesh.services.{self.wires.service}")

    def new_id(self, prefix: str) -> str:
        """A time-sortable id such as `ord_0198c2d4-…`."""
        return clock.new_id(prefix)

    def entity_id(self, prefix: str) -> str:
        """The id of what this request creates: the same again when its key is sent again."""
        if self.keyed is None:
            return clock.new_id(prefix)
        if not self.keyed.entity:
            self.keyed.entity = clock.new_id(prefix)
        return self.keyed.entity

    @property
    def resumed(self) -> bool:
        """Whether an earlier try under this key got as far as its first write."""
        return self.keyed is not None and self.keyed.resumed

    def ask(
        self, call: Call[In, Out], request: In, *, key: str | None = None
    ) -> Coroutine[object, object, Out]:
        """Ask another service, within what is left of this work's deadline.

        Args:
            key: Idempotency-Key; makes a POST safe to send again.

        Raises: what `Client.ask` raises; Broken for a call that is not in the service's table.
        """
        if call not in self.wires.asks:
            raise Broken(
                f"{self.wires.service} asks {call.service} {call.route!r}, not in its table",
                hint="name the call in `asks=(…)` of the Service",
            )
        envelope = Envelope(
            trace=self.trace,
            deadline_s=self.deadline_s,
            cause=self.cause,
            key=key,
            outermost=self.outermost,
        )
        return self.wires.client.ask(call, request, envelope)

    @property
    def read(self) -> Reader:
        """Bounded point reads of what is committed, inline."""
        return self.wires.database.read

    async def scan(self, shape: type[T], sql: str, **params: Value) -> list[T]:
        """A long read, off the event loop."""
        return await self.wires.database.scan(shape, sql, **params)

    def write(
        self, fn: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[object, object, T]:
        """Run `fn(tx, …)` as one transaction; returns once it is durable.

        The first write of a keyed request also records the key and the entity's id.
        """
        return self.wires.database.write(self._run, fn, args, kwargs)

    async def write_each(self, fn: Callable[..., None], rows: Sequence[object]) -> MeshError | None:
        """Run `fn(tx, *rows)` as one transaction; where it refuses, one for each row.

        Returns: why the last row failed of those that did by themselves, the others being written.
        """
        failed: MeshError | None = None
        try:
            await self.write(fn, *rows)
        except (Refused, Broken):
            for row in rows:
                try:
                    await self.write(fn, row)
                except (Refused, Broken) as error:
                    failed = error
        return failed

    def write_aside(
        self, fn: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[object, object, T]:
        """The same off the event loop, for what looks through many rows or waits for a disk."""
        return self.wires.database.write_aside(self._run_aside, fn, args, kwargs)

    def conclude(
        self, fn: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[object, object, T]:
        """The last write: what `fn` returns is the answer, stored under the request's key.

        Answer and effect are one commit, so a request that is sent again after a crash either
        finds both or neither.
        """
        return self.wires.database.write(self._run_last, fn, args, kwargs)

    def _run(
        self,
        inner: Transaction,
        fn: Callable[..., T],
        args: tuple[object, ...],
        kwargs: dict[str, object],
    ) -> T:
        result = fn(self._tx(inner), *args, **kwargs)
        self._note_key(inner)  # last: what `fn` refuses has changed nothing
        return result

    def _run_aside(
        self,
        inner: Transaction,
        fn: Callable[..., T],
        args: tuple[object, ...],
        kwargs: dict[str, object],
    ) -> T:
        self._note_key(inner)  # first: what is erased takes its key along
        return fn(self._tx(inner), *args, **kwargs)

    def _run_last(
        self,
        inner: Transaction,
        fn: Callable[..., T],
        args: tuple[object, ...],
        kwargs: dict[str, object],
    ) -> T:
        result = fn(self._tx(inner), *args, **kwargs)
        if self.keyed is not None:
            idempotency.store_answer(inner, self.keyed, self.status, result)
        return result

    def _note_key(self, inner: Transaction) -> None:
        if self.keyed is not None and self.keyed.recorded != self.keyed.entity:
            idempotency.record(inner, self.keyed)

    def _tx(self, inner: Transaction) -> Tx:
        trace = self.trace
        return Tx(inner, self.wires.vocabulary, trace, self.cause, trace.trace_id)

    async def sleep(self, seconds: float) -> None:
        """Wait, for example for an outside system; bounded by the deadline of this work."""
        left_s = self.deadline_s - clock.monotonic_s()
        await asyncio.sleep(max(0.0, min(seconds, left_s)))

    async def compute(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run CPU work in a bounded pool of threads.

        Raises: Overloaded when COMPUTE_WAITING_MAX callers wait already.
        """
        wires = self.wires
        if wires.computing >= wires.pool_size + COMPUTE_WAITING_MAX:
            raise Overloaded("too many are waiting for the compute pool")
        wires.computing += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(wires.pool, lambda: fn(*args, **kwargs))
        finally:
            wires.computing -= 1
