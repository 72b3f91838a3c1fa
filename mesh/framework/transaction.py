"""What a transaction function and a listener are handed: reads, writes, `tell` and `defer`.

Everything done through it is one commit: the rows, the events told, the work left for later.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from mesh import clock, codec, telemetry
from mesh.bus import Trace
from mesh.errors import Broken
from mesh.framework import outbox

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mesh.database import Transaction
    from mesh.framework.service import Tells
    from mesh.telemetry import TraceContext

T = TypeVar("T")

GENERATION_BYTES = 7
"""Of randomness to tell one deferral of some work from the next; fits a signed 64-bit integer."""


@dataclass(frozen=True)
class Vocabulary:
    """What this service may say: its events by data type, its deferred actions by name."""

    tells: Mapping[type, Tells]
    deferred: frozenset[str]
    left: Callable[[int], None]
    """Called after a commit with when each piece of work is due that it deferred, in wall time."""
    acked: Callable[[], int] = lambda: 0
    """Up to which event the bus has them; asked within the transaction."""
    erase: Callable[[Tx, str], None] | None = None
    """How this service erases a person."""
    told: Callable[[outbox.Told], None] = lambda _: None
    """Called after a commit with each event that it told."""
    log: outbox.Log = field(default_factory=outbox.Log)
    """Writes what is told."""


class Tx:
    """One atomic change of this service's database. Valid inside the function it was given to.

    Attributes:
        one: `one(shape, sql, **params)`: the first row as `shape` (a struct by column name, else the
            first column), or None.
        all: every row likewise; bound the statement.
        execute: `execute(sql, **params)` runs one statement; returns how many rows it changed.
            Raises: Conflict (code `constraint`).
        cause: what this change comes from: the id of the event handled, else of the request.
    """

    __slots__ = (
        "_correlation",
        "_inner",
        "_vocabulary",
        "all",
        "cause",
        "execute",
        "now_ms",
        "one",
        "trace",
    )

    def __init__(
        self,
        inner: Transaction,
        vocabulary: Vocabulary,
        trace: TraceContext,
        cause: str,
        correlation: str = "",
    ) -> None:
        """The story of this commit is what its events and its deferred work will carry.

        Args:
            trace: the step that it is part of.
            correlation: the whole story's id, where it is told.
        """
        # The database's own: a dozen statements an order, and nothing is to be added to them.
        self.one, self.all, self.execute = inner.one, inner.all, inner.execute
        self._inner = inner
        self._vocabulary = vocabulary
        self._correlation = correlation
        self.trace = trace
        self.cause = cause
        self.now_ms = clock.now_ms()

    def new_id(self, prefix: str) -> str:
        """A time-sortable id such as `pay_0198c2d4-…`."""
        return clock.new_id(prefix)

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call this on the event loop once the commit is durable: to wake a loop, never an effect."""
        self._inner.after_commit(callback)

    def tell(self, data: object) -> None:
        """Tell the world: an outbox row of this very commit.

        Raises: Broken when the service's table does not declare this event.
        """
        words, inner = self._vocabulary, self._inner
        row = words.tells.get(type(data))
        if row is None:
            raise Broken(f"{type(data).__name__} is not among the events this service tells")
        step = self.trace.child()
        event = words.log.append(
            inner,
            event_type=row.event,
            key=str(getattr(data, row.key)),
            trace=Trace(step.traceparent, self._correlation, self.cause),
            body=codec.encode(data),
            ts_ms=self.now_ms,
            acked=words.acked(),
        )
        inner.after_commit(partial(words.told, outbox.Told(event, step, self.trace.span_id)))

    def defer(
        self,
        action: str,
        args: object,
        *,
        key: str,
        after_s: float = 0.0,
        on_ms: int | None = None,
    ) -> None:
        """Leave a call of one of the service's deferred actions for after this commit.

        One call is kept for each (action, key): deferring again replaces its arguments, and it
        runs once more even if it is running now.

        Args:
            after_s: not before this many seconds from now.
            on_ms: a business date (wall time) instead; such work does not count as unrest.
        """
        if action not in self._vocabulary.deferred:
            raise Broken(f"{action!r} is not among the deferred actions of this service")
        due_ms = on_ms if on_ms is not None else self.now_ms + int(after_s * clock.MS_PER_S)
        self._inner.execute(
            "INSERT INTO deferred (action, key, args, due_ms, dated, generation, traceparent, cause)"
            " VALUES (:action, :key, :args, :due_ms, :dated, :generation, :traceparent, :cause)"
            " ON CONFLICT (action, key) DO UPDATE SET args = excluded.args,"
            " due_ms = excluded.due_ms, dated = excluded.dated, generation = excluded.generation,"
            " attempts = 0, traceparent = excluded.traceparent, cause = excluded.cause",
            action=action,
            key=key,
            args=codec.encode(args),
            due_ms=due_ms,
            dated=int(on_ms is not None),
            generation=int(clock.random_hex(GENERATION_BYTES), 16),
            traceparent=self.trace.traceparent,
            cause=self.cause,
        )
        self._inner.after_commit(partial(self._vocabulary.left, due_ms))

    def resumed(self, traceparent: str, cause: str) -> Tx:
        """The same transaction, on behalf of whoever left that work in rows of its own."""
        came = telemetry.parse_traceparent(traceparent)
        if came is None:
            return self
        return Tx(self._inner, self._vocabulary, came, cause, came.trace_id)

    def erase(self, user_id: str) -> None:
        """Erase a person for good: rows, stored answers and bytes, also should a copy come back.

        Looks through many rows and waits for a disk: of a transaction that runs aside.

        Raises: StorageFull; Broken when the service's table does not say how.
        """
        if self._vocabulary.erase is None:
            raise Broken("this service's table does not say how it erases a person")
        self._vocabulary.erase(self, user_id)

    def scrub(self) -> None:
        """Soon after this commit, leave no copy in the -wal of what it deleted."""
        self._inner.scrub()

    def undefer(self, *actions: str, key: str) -> None:
        """The work is done or no longer wanted."""
        self._inner.make_durable()
        named = {f"action{n}": action for n, action in enumerate(actions)}
        which = ", ".join(f":{name}" for name in named)
        self._inner.execute(
            f"DELETE FROM deferred WHERE key = :key AND action IN ({which})",  # noqa: S608  names
            key=key,
            **named,
        )
