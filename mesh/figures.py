"""What a service counts about itself and tells its supervisor once a second: the words of both.

Rates and quantiles are of the last WINDOW_S seconds; a quantile or share of nothing is None, not 0.
Vocabulary only: who counts is `framework/figures.py`, who believes is `orchestrator/figures.py`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

WINDOW_S = 10
"""Long enough for a 99th percentile to mean something, short enough to show what happens now."""

HISTORY_S = 60
"""One-second counts kept for a sparkline."""

PEERS_MAX = 10
"""Peers asked, and streams heard, that are told of: a message must fit one atomic write to a pipe."""

Name = Annotated[str, Meta(max_length=31)]
Count = Annotated[int, Meta(ge=0)]
Amount = Annotated[float, Meta(ge=0)]
Percent = Annotated[float, Meta(ge=0, le=100)]
Breaker = Literal["closed", "open", "half-open"]


class Asks(Struct, frozen=True, kw_only=True):
    """What one peer is asked, as the asker sees it: each attempt counts."""

    callee: Name
    requests_per_s: Amount
    p50_ms: Amount | None = None
    p99_ms: Amount | None = None
    error_percent: Percent | None = None
    """Attempts without an answer or with one of 5xx."""
    breaker: Breaker | None = None


class Hears(Struct, frozen=True, kw_only=True):
    """One stream that is heard. `p99_ms` is from the telling commit to the one that applied it."""

    stream: Name
    events_per_s: Amount
    p50_ms: Amount | None = None
    p99_ms: Amount | None = None
    lag: Count | None = None
    parked: Count | None = None


class Tells(Struct, frozen=True, kw_only=True):
    """The service's own stream. `waiting`: told, and not acknowledged by the bus yet."""

    events_per_s: Amount
    waiting: Count | None = None


class Figures(Struct, frozen=True, kw_only=True):
    """One second's message. `requests` were answered since the message before."""

    requests: Count
    requests_per_s: Amount
    p50_ms: Amount | None = None
    p99_ms: Amount | None = None
    error_percent: Percent | None = None
    """Answers of 5xx among all."""
    asks: Annotated[tuple[Asks, ...], Meta(max_length=PEERS_MAX)] = ()
    hears: Annotated[tuple[Hears, ...], Meta(max_length=PEERS_MAX)] = ()
    tells: Tells | None = None
    dropped: Count = 0
    """Spans and log lines that could not be written, since the start."""
