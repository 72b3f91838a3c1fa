"""Moments of a shop, made up: what a screen has to show well."""

from __future__ import annotations

import math

from msgspec.structs import replace

from mesh.dashboard.frame import Details, Follower, Frame, LogLine, Stream, Told
from mesh.figures import Asks, Hears, Tells
from mesh.orchestrator.contract import Fault, ProgramStatus, Status, SupervisorStatus
from mesh.tracing.stories import Summary
from mesh.tracing.waterfall import waterfall
from tests.tracing.stories import BEFELL, ID, ORDER

AT_MS = 1_787_565_127_114
"""10:32:07.114 of some day."""


def _history(level: float) -> tuple[int, ...]:
    return tuple(max(0, round(level + level / 3 * math.sin(n / 4))) for n in range(60))


def _service(name: str, port: int, **more) -> ProgramStatus:
    known = {
        "state": "ready",
        "pid": 41200 + port % 100,
        "port": port,
        "url": f"http://127.0.0.1:{port}",
        "uptime_s": 862.0,
        "cpu_percent": 9.0,
        "rss_bytes": 55 * 2**20,
        "requests_per_s": 71.0,
        "p50_ms": 1.9,
        "p99_ms": 7.4,
        "error_percent": 0.0,
        "lag": 0,
        "sandbox": "landlock",
        "history": _history(70),
        "cause": "ready",
    }
    return ProgramStatus(name=name, **{**known, **more})


SERVICES = (
    _service("auth", 7001, cpu_percent=3.0, requests_per_s=12.0, history=_history(12)),
    _service("user", 7002, cpu_percent=2.0, requests_per_s=0.4, history=_history(1)),
    _service("product", 7003, cpu_percent=22.0, requests_per_s=208.0, tells=Tells(events_per_s=96)),
    _service(
        "order",
        7004,
        cpu_percent=31.0,
        requests_per_s=104.0,
        p50_ms=4.0,
        p99_ms=18.0,
        history=_history(100),
        asks=(
            Asks(
                callee="product",
                requests_per_s=101,
                p50_ms=2,
                p99_ms=9,
                error_percent=0.0,
                breaker="closed",
            ),
            Asks(callee="auth", requests_per_s=0.1, breaker="closed"),
        ),
        hears=(Hears(stream="product", events_per_s=96, p50_ms=3, p99_ms=11, lag=0),),
    ),
    _service(
        "bus",
        7000,
        requests_per_s=None,
        p50_ms=None,
        p99_ms=None,
        error_percent=None,
        lag=None,
        history=None,
    ),
)


def _told(number: int, kind: str, stream: str, sequence: int) -> Told:
    return Told(
        arrival=184_000 + number,
        at_ms=AT_MS + 17 * number,
        type=kind,
        stream=stream,
        epoch=1,
        sequence=sequence,
        subject=f"{stream[:3]}_01990c2d-4f1e-7aaa-8000-00000000{number:04x}",
        id=f"01990c2d-4f1e-7bbb-8000-{number:012x}",
        trace_id=f"4bf92f3577b34da6a3ce929d0e0e{number:04x}",
        body='{"sku": "TEA-1", "on_hand": 12}',
    )


def told(count: int) -> tuple[Told, ...]:
    """Orders and the stock they take, in turn."""
    return tuple(
        _told(n, "product.stock_changed", "product", 500 + n // 2)
        if n % 2
        else _told(n, "order.status_changed", "order", 700 + n // 2)
        for n in range(count)
    )


STREAMS = (
    Stream("order", 1, 712, 104.0, (Follower("user", 1, 712, 0),)),
    Stream("product", 1, 512, 96.0, (Follower("order", 1, 511, 1),)),
    Stream("user", 1, 9, 0.0),
)


def _summary(number: int) -> Summary:
    failed = number == 2
    return Summary(
        trace_id=ID if failed else f"4bf92f3577b34da6a3ce929d0e0e{number:04x}",
        start_us=(AT_MS - 40 * number) * 1000,
        service="mesh",
        root="mesh call order create",
        duration_us=281_000 if failed else 9_500 + number,
        whole_us=300_000,
        error="503" if failed else "",
        retries=int(failed),
        spans=17,
        services=("mesh", "order", "product"),
    )


TRACES = tuple(map(_summary, range(6)))

WATERFALL = waterfall(ORDER, BEFELL)


def _line(
    number: int, level: str, service: str, message: str, facts: str = "", trace: str = ""
) -> LogLine:
    return LogLine(number, AT_MS + 31 * number, service, level, message, facts, trace)


LOGS = (
    _line(1, "info", "product", "serving", "port=7003"),
    _line(2, "info", "order", "serving", "port=7004"),
    _line(
        3, "warning", "order", "a peer is away", "peer=product", "4bf92f3577b34da6a3ce929d0e0e0002"
    ),
    _line(4, "error", "product", "hold failed", "status=503 order=ord_8f2"),
    _line(5, "debug", "auth", "key set renewed"),
)

HEALTHY = Frame(
    Status(
        project="shop", supervisor=SupervisorStatus(pid=41100, uptime_s=862.0), services=SERVICES
    ),
    AT_MS,
    STREAMS,
    frozenset(),
    told(24),
    TRACES,
    None,
    LOGS,
)


def _with(services, **more) -> Frame:
    return replace(HEALTHY, status=replace(HEALTHY.status, services=services), **more)


DEGRADED = _with(
    (
        SERVICES[0],
        _service(
            "user", 7002, state="backoff", pid=None, restarts=4, cause="signal 9, next try in 2 s",
            cpu_percent=None, rss_bytes=None, requests_per_s=0.0, p50_ms=None, p99_ms=None,
            error_percent=None, uptime_s=None, lag=904,
        ),
        replace(
            SERVICES[2],
            faults=(Fault(kind="latency", target="product", for_s=30, ms=500, left_s=12.4),),
            p99_ms=540.0, p50_ms=503.0,
        ),
        replace(
            SERVICES[3], state="degraded", cause="a handler retries", error_percent=4.6, p99_ms=1240.0,
            lag=118, restarts=2,
            asks=(
                Asks(callee="product", requests_per_s=71, p50_ms=503, p99_ms=1200, error_percent=4.6, breaker="half-open"),
            ),
        ),
        SERVICES[4],
    ),
    streams=(
        Stream("order", 1, 712, 104.0, (Follower("user", 1, 100, 612),)),
        Stream("product", 1, 512, 96.0, (Follower("order", 1, 394, 118),)),
    ),
    parked=frozenset({("order", "product", 510)}),
    waterfall=WATERFALL,
    dropped=1234,
    details=Details(
        "order",
        (
            ("state", (("degraded", "warn"), " for 12 s: a handler retries")),
            ("last exit", ("signal 9, 4.1 s after its start, at 2026-08-24T10:30:00Z",)),
            ("health", ("http /readyz ", ("good", "good"), ": 200, 0.4 s ago")),
            ("port", ("7004: listened on by this service",)),
        ),
        ('{"message": "a peer is away"}',),
    ),
)  # fmt: skip

NOTHING = Frame(
    Status(
        project="shop",
        supervisor=None,
        services=tuple(
            ProgramStatus(name=name, state="stopped")
            for name in ("auth", "user", "product", "order", "bus")
        ),
    )
)

LONG = _with(
    tuple(
        _service(f"a-very-long-service-name-number-{n}", 7000 + n, cause="x" * 200, state="failed")
        for n in range(20)
    ),
    logs=tuple(
        _line(n, "error", f"a-very-long-service-name-number-{n}", "word " * 400, "fact=1 " * 100)
        for n in range(40)
    ),
)

_NASTY = "\x1b]0;owned\x07\x1b[31m[red]x[/red]\r\n\u202e\u200b\x9b2J\ttab 漢字 e\u0301 🦆 "
PAYLOADS = _with(
    tuple(
        replace(row, name=_NASTY + row.name, cause=_NASTY, state="failed", faults=())
        for row in SERVICES
    ),
    told=tuple(
        replace(each, type=_NASTY + each.type, stream=_NASTY, subject=_NASTY * 3, body=_NASTY * 9)
        for each in told(9)
    ),
    streams=(Stream(_NASTY, 1, 3, 1.0, (Follower(_NASTY, 1, 2, 1),)),),
    logs=tuple(_line(n, "error", _NASTY, _NASTY * 30, _NASTY) for n in range(9)),
    traces=tuple(replace(each, root=_NASTY, service=_NASTY, error=_NASTY) for each in TRACES),
    waterfall=waterfall(
        [replace(each, name=_NASTY, service=_NASTY, status=_NASTY) for each in ORDER],
        [(at_us, _NASTY, _NASTY) for at_us, _, _ in BEFELL],
    ),
    quiet=_NASTY,
)

FRAMES = {
    "healthy": HEALTHY,
    "degraded": DEGRADED,
    "nothing": NOTHING,
    "long": LONG,
    "payloads": PAYLOADS,
}
