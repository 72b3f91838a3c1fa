"""Log lines and spans of one process: the door to `tracing/`.

A log line is one JSON object on standard error, which the supervisor has pointed at a file.
Nothing here may block or fail the work it describes: a line that cannot be written is counted
and dropped.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from contextvars import ContextVar

from mesh import clock, codec
from mesh.tracing.context import TraceContext, new_trace, parse_traceparent
from mesh.tracing.recorder import recorder

__all__ = ["TraceContext", "new_trace", "parse_traceparent", "recorder"]

WARNING, ERROR = logging.WARNING, logging.ERROR

LINE_BYTES_MAX = 16 * 1024
"""A longer log line is cut: one record must not push a file over its rotation."""

MEMBER_CHARACTERS_MAX = 100
"""What is left of each member then: twelve escaped bytes a character at most, a dozen members."""

current_trace: ContextVar[TraceContext | None] = ContextVar("current_trace", default=None)
"""What the running task works on; log lines carry its id."""

record, leaf = recorder.record, recorder.leaf
"""Tell of a piece of work that has ended (`tracing.recorder.Recorder`)."""

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
            line["trace_id"], line["span_id"] = trace.trace_id, trace.span_id
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
