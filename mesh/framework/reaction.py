"""One event on its way through a listener: its place in the story, and how long it took.

An event's spans are its delivery (from being told until somebody began) and the listener's work
with its commit; events without a listener have none, since nothing happens but a cursor's move.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh import clock, codec, telemetry
from mesh.bus import Trace
from mesh.errors import InvalidInput, MeshError

if TYPE_CHECKING:
    from mesh.bus import Event


class Reaction:
    """What one listener does about one event. Made before its transaction, run within it.

    Attributes:
        trace, cause, correlation: what events and deferred work of the listener carry.
        begun_s: when the listener was called, on the monotonic clock; 0 before.
    """

    __slots__ = (
        "_came",
        "_damage",
        "_delivery",
        "_event",
        "begun_s",
        "cause",
        "correlation",
        "trace",
    )

    def __init__(self, event: Event) -> None:
        """Nothing has happened yet."""
        self._event = event
        self._damage: InvalidInput | None = None
        try:
            told = codec.decode(event.trace, Trace)
        except InvalidInput as error:
            told, self._damage = Trace(), error
        self._came = telemetry.parse_traceparent(told.traceparent) or telemetry.new_trace()
        self._delivery = self._came.child()
        self.trace = self._delivery.child()
        self.correlation = told.correlation
        self.cause = clock.uuid_text(event.id)
        self.begun_s = 0.0

    def enter(self) -> None:
        """What is logged, written and asked from here on belongs to the listener's step."""
        telemetry.current_trace.set(self.trace)

    def begin(self) -> None:
        """The listener is called now. Raises: InvalidInput (the event cannot be read)."""
        self.begun_s = clock.monotonic_s()
        if self._damage is not None:
            raise self._damage

    def end(self, name: str, attempt: int, error: BaseException | None = None) -> None:
        """Its transaction is durable, or was undone by `error`. Does nothing if it never began."""
        if not self.begun_s:
            return
        event = self._event
        told_s = event.ts_ms / clock.MS_PER_S - clock.offset_s()
        place = (event.type, event.stream, event.seq)
        if attempt == 1:
            telemetry.record(
                "delivery",
                self._delivery,
                self._came.span_id,
                event.type,
                min(told_s, self.begun_s),
                self.begun_s,
                values=place,
            )
        status = ""
        if error is not None:
            status = error.code if isinstance(error, MeshError) else type(error).__name__
        telemetry.record(
            "handler",
            self.trace,
            self._delivery.span_id if attempt == 1 else self._came.span_id,
            name,
            self.begun_s,
            clock.monotonic_s(),
            status,
            (*place, attempt),
        )
