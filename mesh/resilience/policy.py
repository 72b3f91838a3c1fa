"""How a call is made: the value in its contract that says how long, how often, how many at a time."""

from __future__ import annotations

from dataclasses import dataclass

CALL_S = 0.8
"""Default time for a whole internal call, retries included."""

RETRIES_MAX = 2

CONNECTIONS_MAX = 32
"""To one callee: a slow one must not use up its caller (aiohttp's default has no bound)."""


@dataclass(frozen=True, kw_only=True)
class BreakerPolicy:
    """When a callee is left alone."""

    multiple: float = 2.0
    """The K of adaptive throttling: what is held back leaves the callee K times what it takes
    (Site Reliability Engineering, chapter 21)."""
    window_s: int = 30
    slack: int = 10
    """Failures that say nothing yet: a restart in a quiet system is no overload."""
    unreachable_max: int = 5
    """Connections in a row that could not be made until the callee is not even tried."""
    open_s: float = 1.0
    """Then this long, until one probe."""
    failing: int = 10
    """Bad answers in a row after which the good past is forgotten and only probes go through: a
    window of 30 s would let half a minute of good answers pay for as many bad ones."""
    recovered: int = 5
    """Good answers in a row after which the past is forgotten: a window of 30 s would hold back
    for half a minute what has long been mended."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """How one operation of a peer is asked.

    `timeout_s` bounds the whole call with its retries; `retries_max` holds where a retry is
    allowed at all: idempotent operations, outermost caller, within the budget. Calls to one
    peer with equal `breaker` and `connections_max` share both.
    """

    timeout_s: float = CALL_S
    retries_max: int = RETRIES_MAX
    breaker: BreakerPolicy = BreakerPolicy()
    connections_max: int = CONNECTIONS_MAX


AS_USUAL = Policy()
"""Of every call that says nothing else."""
