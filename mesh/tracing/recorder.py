"""Takes the spans of one process where the work is done, and writes them from a thread.

Taking one is making its line, while all that it says is at hand: kept as it is for a thread to
encode, it costs more than that. The writes are the thread's, a few times a second. What cannot be
taken or written is dropped and counted.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from typing import TYPE_CHECKING

from mesh import clock, codec
from mesh.tracing.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from mesh.tracing.context import TraceContext
    from mesh.tracing.span import Value

    _Row = tuple[str, str, str, str, str, int, int, str, tuple[Value, ...]]

FLUSH_S = 0.05
"""A span is on file this long after its end: below what a person notices."""

PENDING_MAX = 20_000
"""Spans that wait for the thread, about 4 MB: seconds of a busy service."""

BATCH_MAX = 2_000
"""Written in one go: 2 MB at most, half of what a piece may hold."""

TEXT_CHARS_MAX = 200
"""Of a name or a value in a line that is too long; a path can be as long as a request's head."""

LINE_BYTES_MAX = 1024

_US = 1_000_000


class Recorder:
    """One a process; takes nothing until it is started. Any thread may call `record`.

    Attributes:
        dropped: spans that were lost.
    """

    def __init__(self) -> None:
        """Off."""
        self.dropped = 0
        self._on = self._asleep = False
        self._pending: deque[bytes] = deque()
        self._offset_s = 0.0
        """From the monotonic clock to wall time, as it was when anybody looked last."""
        self._bell = threading.Event()
        self._closing = threading.Event()
        self._store: Store | None = None
        self._thread: threading.Thread | None = None

    def start(self, folder: Path) -> None:
        """Take spans from now on. Raises: OSError."""
        self._offset_s = clock.offset_s()
        self._store = Store(folder)
        self._closing.clear()
        self._on = True
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)
        self._thread.start()

    def record(
        self,
        kind: str,
        trace: TraceContext,
        parent_id: str,
        name: str,
        start_s: float,
        end_s: float,
        status: str = "",
        values: tuple[Value, ...] = (),
    ) -> None:
        """One piece of work has ended; times are of the monotonic clock."""
        if not (self._on and trace.sampled):
            return
        if len(self._pending) >= PENDING_MAX:
            self.dropped += 1
            return
        if self._asleep:
            self._offset_s = clock.offset_s()
        line = encoded(self._offset_s, kind, trace, parent_id, name, start_s, end_s, status, values)
        if not line:
            self.dropped += 1
            return
        self._pending.append(line)
        if self._asleep:
            self._asleep = False
            self._bell.set()

    def leaf(
        self,
        kind: str,
        parent: TraceContext,
        name: str,
        start_s: float,
        end_s: float,
        status: str = "",
        values: tuple[Value, ...] = (),
    ) -> None:
        """The same for a piece that nothing else is part of."""
        self.record(kind, parent.child(), parent.span_id, name, start_s, end_s, status, values)

    def close(self) -> None:
        """Write what was taken, and take no more. Idempotent."""
        self._on = False
        if self._thread is None or self._store is None:
            return
        self._closing.set()
        self._bell.set()
        self._thread.join()
        self._thread = None
        while self._pending:
            self._write()
        self._store.close()

    def _run(self) -> None:
        """Look every FLUSH_S while spans come: to be woken takes the interpreter from who works."""
        while not self._closing.wait(FLUSH_S):
            if not self._pending:
                self._sleep()
            else:
                self._offset_s = clock.offset_s()  # the wall clock may have been set
                while self._pending:
                    self._write()

    def _sleep(self) -> None:
        """Until the next span is taken, or the end."""
        self._bell.clear()
        self._asleep = True
        if not self._pending and not self._closing.is_set():
            self._bell.wait()
        self._asleep = False

    def _write(self) -> None:
        assert self._store is not None
        pending = self._pending
        batch = [pending.popleft() for _ in range(min(BATCH_MAX, len(pending)))]
        if not self._store.append(b"\n".join((*batch, b""))):
            self.dropped += len(batch)


def encoded(
    offset_s: float,
    kind: str,
    trace: TraceContext,
    parent_id: str,
    name: str,
    start_s: float,
    end_s: float,
    status: str,
    values: tuple[Value, ...],
) -> bytes:
    """A line as `span.py` describes it, without its end; nothing for a span that no JSON can hold.

    Args:
        offset_s: from the monotonic clock to wall time.
    """
    trace_id, span_id = trace.trace_id, trace.span_id
    try:
        start_us, took_us = int((start_s + offset_s) * _US), int((end_s - start_s) * _US)
        row = (trace_id, span_id, parent_id, kind, name, start_us, took_us, status, values)
        line = codec.encode(row)
        return line if len(line) < LINE_BYTES_MAX else codec.encode(_shortened(row))
    except Exception:  # noqa: BLE001  a lone surrogate, say; who tells of their work has it done
        return b""


def _shortened(row: _Row) -> _Row:
    trace_id, span_id, parent_id, kind, name, start_us, took_us, status, values = row
    values = tuple(v[:TEXT_CHARS_MAX] if isinstance(v, str) else v for v in values)
    name = name[:TEXT_CHARS_MAX]
    return trace_id, span_id, parent_id, kind, name, start_us, took_us, status, values


def note(
    folder: Path,
    kind: str,
    trace: TraceContext,
    name: str,
    begun_s: float,
    status: str,
    values: tuple[Value, ...],
) -> None:
    """Write at once what has just ended: for a command, which has no hot path. Never raises."""
    line = encoded(
        clock.offset_s(), kind, trace, "", name, begun_s, clock.monotonic_s(), status, values
    )
    with contextlib.suppress(OSError):
        store = Store(folder)
        store.append(line and line + b"\n")
        store.close()


recorder = Recorder()
"""This process's own."""
