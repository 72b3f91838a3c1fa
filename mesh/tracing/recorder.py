"""Takes the spans of one process where the work is done, and writes them from a thread.

Taking one is appending a tuple; everything else (wall time, encoding, the write) is the thread's,
a few times a second. What cannot be taken or written is dropped and counted.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from typing import TYPE_CHECKING

from mesh import clock, codec
from mesh.tracing.context import TraceContext
from mesh.tracing.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from mesh.tracing.span import Value

    Taken = tuple[str, str, str, str, str, float, float, str, tuple[Value, ...]]
    _Row = tuple[str, str, str, str, str, int, int, str, tuple[Value, ...]]

FLUSH_S = 0.05
"""A span is on file this long after its end: below what a person notices."""

PENDING_MAX = 20_000
"""Spans that wait for the thread, about 10 MB: seconds of a busy service."""

BATCH_MAX = 256
"""Encoded and written in one go: well under a millisecond in which nobody else can run."""

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
        self._pending: deque[Taken] = deque()
        self._bell = threading.Event()
        self._closing = threading.Event()
        self._store: Store | None = None
        self._thread: threading.Thread | None = None

    def start(self, folder: Path) -> None:
        """Take spans from now on. Raises: OSError."""
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
        pending = self._pending
        if len(pending) >= PENDING_MAX:
            self.dropped += 1
            return
        pending.append(
            (trace.trace_id, trace.span_id, parent_id, kind, name, start_s, end_s, status, values)
        )
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
        """The same for a piece that nothing else is part of: its id is made by the thread."""
        step = TraceContext(parent.trace_id, "", parent.sampled)
        self.record(kind, step, parent.span_id, name, start_s, end_s, status, values)

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
        lines = encoded(batch, clock.offset_s())
        written = lines.count(b"\n") if self._store.append(lines) else 0
        self.dropped += len(batch) - written


def encoded(batch: list[Taken], offset_s: float) -> bytes:
    """Lines as `span.py` describes them; nothing for spans that no JSON can hold.

    Args:
        offset_s: from the monotonic clock to wall time.
    """
    rows = [
        (
            trace_id,
            span_id or clock.random_hex(8),
            parent_id,
            kind,
            name,
            int((start_s + offset_s) * _US),
            int((end_s - start_s) * _US),
            status,
            values,
        )
        for trace_id, span_id, parent_id, kind, name, start_s, end_s, status, values in batch
    ]
    lines = _lines(rows)
    if max(map(len, lines.split(b"\n"))) > LINE_BYTES_MAX:
        lines = _lines([_shortened(row) for row in rows])
    return lines


def _lines(rows: list[_Row]) -> bytes:
    try:
        return codec.encode_lines(rows)
    except (ValueError, TypeError):  # a lone surrogate, say: only that span is lost
        if len(rows) == 1:
            return b""
        half = len(rows) // 2
        return _lines(rows[:half]) + _lines(rows[half:])


def _shortened(row: _Row) -> _Row:
    trace_id, span_id, parent_id, kind, name, start_us, took_us, status, values = row
    values = tuple(v[:TEXT_CHARS_MAX] if isinstance(v, str) else v for v in values)
    name = name[:TEXT_CHARS_MAX]
    return trace_id, span_id, parent_id, kind, name, start_us, took_us, status, values


def note(folder: Path, taken: Taken) -> None:
    """Write one span at once: for a command, which has no hot path. Never raises."""
    with contextlib.suppress(OSError):
        store = Store(folder)
        store.append(encoded([taken], clock.offset_s()))
        store.close()


recorder = Recorder()
"""This process's own."""
