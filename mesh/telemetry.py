"""Log lines, trace context and metrics of one process.

A log line is one JSON object on standard error, which the supervisor has pointed at a file.
Nothing here may block or fail the work it describes: a line that cannot be written is counted
and dropped.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
from contextvars import ContextVar

from msgspec import Struct

from mesh import clock, codec

WARNING, ERROR = logging.WARNING, logging.ERROR

LINE_BYTES_MAX = 16 * 1024
"""A longer log line is cut: one record must not push a file over its rotation."""

MEMBER_CHARACTERS_MAX = 100
"""What is left of each member then: twelve escaped bytes a character at most, a dozen members."""

_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


class TraceContext(Struct, frozen=True):
    """W3C trace context: which story this work belongs to (`trace_id`) and which step it is."""

    trace_id: str
    span_id: str

    @property
    def traceparent(self) -> str:
        """The header's value; always sampled, the recorder decides what it keeps."""
        return f"00-{self.trace_id}-{self.span_id}-01"

    def child(self) -> TraceContext:
        """The next step of the same story."""
        return TraceContext(self.trace_id, clock.random_hex(8))


def new_trace() -> TraceContext:
    """The first step of a new story."""
    both = clock.random_hex(24)
    return TraceContext(both[:32], both[32:])


def parse_traceparent(header: str | None) -> TraceContext | None:
    """The context a `traceparent` names; None when it is absent or malformed."""
    match = _TRACEPARENT.fullmatch(header) if header else None
    if match is None or match[1] == "0" * 32 or match[2] == "0" * 16:
        return None
    return TraceContext(match[1], match[2])


current_trace: ContextVar[TraceContext | None] = ContextVar("current_trace", default=None)
"""What the running task works on; log lines carry its id."""

_lines_dropped = 0


def dropped() -> int:
    """Log lines that could not be written since the start."""
    return _lines_dropped


class _JsonFormatter(logging.Formatter):
    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": clock.iso(int(record.created * clock.MS_PER_S)),
            "level": record.levelname.lower(),
            "service": self._service,
            "message": record.getMessage(),
        }
        trace = current_trace.get()
        if trace is not None:
            line["trace_id"] = trace.trace_id
        facts = getattr(record, "facts", None)
        if isinstance(facts, dict):
            line.update(facts)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        text = codec.encode_text(line)
        if len(text) <= LINE_BYTES_MAX:
            return text
        return codec.encode_text({name: _shortened(value) for name, value in line.items()})


def _shortened(value: object) -> str:
    """A member of a line that was too long, as text of at most MEMBER_CHARACTERS_MAX."""
    text = value if isinstance(value, str) else codec.encode_text(value)
    if len(text) <= MEMBER_CHARACTERS_MAX:
        return text
    return f"{text[:MEMBER_CHARACTERS_MAX]}… ({len(text)} characters)"


class _DroppingHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        global _lines_dropped  # noqa: PLW0603  one counter a process is what is meant
        try:
            os.write(sys.stderr.fileno(), self.format(record).encode() + b"\n")
        except Exception:  # noqa: BLE001  a failing log line must not fail the work it describes
            _lines_dropped += 1


def setup_logging(service: str, level: str = "INFO") -> None:
    """Send every log record of this process to standard error as JSON lines."""
    handler = _DroppingHandler()
    handler.setFormatter(_JsonFormatter(service))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    with contextlib.suppress(AttributeError):
        logging.raiseExceptions = False


def logger(room: str) -> logging.Logger:
    """The logger of one room of the house, for example `framework.inbox`."""
    return logging.getLogger(f"mesh.{room}")


def facts(**members: object) -> dict[str, object]:
    """Members for a log line: `log.info("told", extra=facts(event=…))`."""
    return {"facts": members}
