"""Counts what one service does, second by second, for its supervisor.

What is told is a second old at most and costs one short line; nobody is asked for it.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from mesh import codec, telemetry
from mesh.errors import Unavailable
from mesh.figures import PEERS_MAX, WINDOW_S, Asks, Figures, Hears, Tells
from mesh.framework import parked

if TYPE_CHECKING:
    from mesh.bus import Bus
    from mesh.client import Client
    from mesh.database import Database
    from mesh.framework.inbox import ServiceInbox
    from mesh.framework.metrics import Metrics
    from mesh.framework.outbox import ServiceOutbox


class Counted:
    """The figures of one service. `second` is called once a second, by whoever beats."""

    def __init__(
        self,
        store: Database,
        client: Client,
        wire: Bus,
        inbox: ServiceInbox,
        outbox: ServiceOutbox,
        metrics: Metrics,
    ) -> None:
        """Nothing was counted yet."""
        self._database = store
        self._client = client
        self._bus = wire
        self._inbox = inbox
        self._outbox = outbox
        self._metrics = metrics
        self._told_before = outbox.told_events
        self._told: deque[int] = deque(maxlen=WINDOW_S)

    def second(self) -> str:
        """A second has passed: what happened of late, as a line; "" when that is not known now."""
        try:
            return codec.encode_text(self.figures())
        except Unavailable:  # a database that is busy will tell next time
            return ""

    def figures(self) -> Figures:
        """What happened in the last seconds, up to now."""
        answered = self._metrics.window.turn()
        found = self._metrics.window.figures()
        return Figures(
            requests=answered,
            requests_per_s=found.per_s,
            p50_ms=found.p50_ms,
            p99_ms=found.p99_ms,
            error_percent=found.error_percent,
            asks=self._asks(),
            hears=self._hears(),
            tells=self._tells(),
            dropped=telemetry.dropped() + telemetry.recorder.dropped,
        )

    def _asks(self) -> tuple[Asks, ...]:
        rows = []
        known = self._client.figures()
        for callee, window in [*self._client.windows.items()][:PEERS_MAX]:
            window.turn()
            found = window.figures()
            rows.append(
                Asks(
                    callee=callee,
                    requests_per_s=found.per_s,
                    p50_ms=found.p50_ms,
                    p99_ms=found.p99_ms,
                    error_percent=found.error_percent,
                    breaker=known[callee].state if callee in known else None,
                )
            )
        return tuple(rows)

    def _hears(self) -> tuple[Hears, ...]:
        rows = []
        lags = self._bus.lags
        for stream, window in [*self._inbox.windows.items()][:PEERS_MAX]:
            window.turn()
            found = window.figures()
            rows.append(
                Hears(
                    stream=stream,
                    events_per_s=found.per_s,
                    p50_ms=found.p50_ms,
                    p99_ms=found.p99_ms,
                    lag=lags.get(stream),
                    parked=parked.count(self._database.read, stream),
                )
            )
        return tuple(rows)

    def _tells(self) -> Tells | None:
        """None for a service that has never told anything."""
        told = self._outbox.told_events
        self._told.append(told - self._told_before)
        self._told_before = told
        if not told:
            return None
        return Tells(events_per_s=sum(self._told) / len(self._told), waiting=self._outbox.waiting)
